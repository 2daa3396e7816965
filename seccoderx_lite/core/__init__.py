"""The words every other room uses: errors, records, CWE entries, code blocks, syntax trees.

Uses the standard library and tree-sitter only. Must not import another room, torch or transformers.
"""
