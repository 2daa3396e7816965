import pytest

from seccoderx_lite.core.languages import language_of


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("py", "python"),
        ("Python", "python"),
        ("python3", "python"),
        ("js", "javascript"),
        ("JavaScript", "javascript"),
        ("C", "c"),
        (".c", "c"),
        ("c++", "cpp"),
        ("CPP", "cpp"),
        (".cc", "cpp"),
        ("Java", "java"),
        ("golang", "go"),
        ("go", "go"),
        ("csharp", None),
        ("", None),
    ],
)
def test_language_aliases_are_known(name, language):
    assert language_of(name) == language
