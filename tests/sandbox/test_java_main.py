import pytest

from seccoderx_lite.sandbox.java_main import find_java_main

MAIN = "public static void main(String[] args) {}"


@pytest.mark.parametrize(
    ("code", "file", "start"),
    [
        (f"public class Sum {{ {MAIN} }}", "Sum", "Sum"),
        (f"package a . b;\npublic class Sum {{ {MAIN} }}", "Sum", "a.b.Sum"),
        (f"class Pair {{}}\nclass Sum {{ {MAIN} }}", "Sum", "Sum"),
        (f"// A class that adds.\nclass Sum {{ {MAIN} }}", "Sum", "Sum"),
        (f'class A {{ String s = "class B"; }} class Sum {{ {MAIN} }}', "Sum", "Sum"),
        (f"class Sum {{ {MAIN} }}\npublic class Helper {{}}", "Helper", "Sum"),
        (f"class One {{ {MAIN} }}\npublic class Two {{ {MAIN} }}", "Two", "Two"),
        (f"public class Outer {{ public static class In {{ {MAIN} }} }}", "Outer", "Outer$In"),
        ("public interface Sum { static void main(String... args) {} }", "Sum", "Sum"),
        (f"record P(int a) {{}}\nfinal class Sum {{ {MAIN} }}", "Sum", "Sum"),
        (f"enum Sum {{ A; {MAIN} }}", "Sum", "Sum"),
        (f'@SuppressWarnings("all") public final class Sum {{ {MAIN} }}', "Sum", "Sum"),
        (
            "class Sum { void main(String[] args) {} } class B { static void main() {} }",
            "Sum",
            "Sum",
        ),
        ("", "Main", "Main"),
        ("class {", "Main", "Main"),
    ],
)
def test_class_with_main_is_found_by_parsing(code: str, file: str, start: str) -> None:
    found = find_java_main(code)
    assert (found.file, found.start) == (file, start)
