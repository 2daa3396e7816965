"""What every other room uses: errors, records, languages, CWE entries, code blocks, syntax, scores.

Uses the standard library and tree-sitter only. Must not import another room, torch or transformers.
"""
