"""Which class of a Java source file to start, and what the file must be called."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tree_sitter

_TYPES = frozenset(
    f"{kind}_declaration" for kind in ("class", "interface", "enum", "record", "annotation_type")
)


@dataclass(frozen=True, slots=True)
class JavaMain:
    """The name of the source file without its ending, and the class to start."""

    file: str
    start: str


def find_java_main(code: str) -> JavaMain:
    """Find the class with `main`: a public one first, then an outer one, then the first.

    The file is named after the public class. Code without a `main` gets a name all the same: the
    compiler and the runtime then say what is wrong with it.
    """
    from seccoderx_lite.core.syntax import parse  # sandboxes for other languages do without it

    root = parse(code, "java")
    package = next((_name(node) for node in root.children if _is_package(node)), "")
    outer = [node for node in root.children if node.type in _TYPES]
    public = next((_field(node, "name") for node in outer if "public" in _modifiers(node)), "")
    found = [(name, node) for node in outer for name, node in _types(node, "") if _has_main(node)]
    found.sort(key=lambda pair: ("public" not in _modifiers(pair[1]), "$" in pair[0]))
    first = found[0][0] if found else public or (_field(outer[0], "name") if outer else "Main")
    file = public or first.partition("$")[0]
    return JavaMain(file, f"{package}.{first}" if package else first)


def _is_package(node: "tree_sitter.Node") -> bool:
    return node.type == "package_declaration"


def _name(package: "tree_sitter.Node") -> str:
    """The name in a package declaration, without annotations and white space."""
    names = [c for c in package.children if c.type in ("identifier", "scoped_identifier")]
    return "".join(_text(names[0]).split()) if names else ""


def _types(node: "tree_sitter.Node", prefix: str) -> Iterator[tuple[str, "tree_sitter.Node"]]:
    """A type and the types inside it, each with its binary name."""
    name = prefix + _field(node, "name")
    yield name, node
    for inner in _members(node):
        if inner.type in _TYPES:
            yield from _types(inner, f"{name}$")


def _members(node: "tree_sitter.Node") -> Iterator["tree_sitter.Node"]:
    body = node.child_by_field_name("body")
    for child in body.children if body else ():
        if child.type == "enum_body_declarations":
            yield from child.children
        else:
            yield child


def _has_main(node: "tree_sitter.Node") -> bool:
    return any(_is_main(member, node.type == "interface_declaration") for member in _members(node))


def _is_main(member: "tree_sitter.Node", in_interface: bool) -> bool:
    if member.type != "method_declaration" or _field(member, "name") != "main":
        return False
    modifiers, parameters = _modifiers(member), _field(member, "parameters")
    is_open = in_interface or "public" in modifiers
    return is_open and "static" in modifiers and "String" in parameters and "," not in parameters


def _modifiers(node: "tree_sitter.Node") -> set[str]:
    found = next((child for child in node.children if child.type == "modifiers"), None)
    return {_text(child) for child in found.children} if found else set()


def _field(node: "tree_sitter.Node", field: str) -> str:
    found = node.child_by_field_name(field)
    return _text(found) if found else ""


def _text(node: "tree_sitter.Node") -> str:
    return (node.text or b"").decode("utf-8", "replace")
