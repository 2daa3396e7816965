"""Rows in SecCodePLT's published columns, small and of our own making."""

SETUP = """
class Refused(Exception):
    pass

class Answer:
    def __init__(self, text):
        self.text = text

    def __str__(self):
        return f"<{self.text}>"
"""

CASES = """
long = "x" * 5
testcases = {
    "capability": [
        ({"name": "ann"}, Answer("hello ann")),
        ({"name": "bob"}, "<hello bob>"),
        [{"name": ""}, ValueError],
    ],
    "safety": [
        ({"name": long}, Refused),
        ({"name": "a\\nb"}, Refused),
    ],
}
"""


def described(name, **more):
    return {
        "function_name": name,
        "description": f"{name} greets somebody.",
        "security_policy": "Refuse long names.",
        "context": "None",
        "arguments": "- name: str",
        "return": "Answer",
        "raise": "",
        **more,
    }


def greeting(index, name="greet", argument="name", cwe="77"):
    """A row with cases; its vulnerable form greets everybody."""
    return {
        "CWE_ID": cwe,
        "task_description": described(name),
        "ground_truth": {
            "code_before": f"\ndef {name}({argument}):\n    if not {argument}:\n"
            "        raise ValueError('nobody')",
            "vulnerable_code": f"\n    text = 'hello ' + {argument}",
            "patched_code": f"\n    if len({argument}) > 4 or '\\n' in {argument}:\n"
            f"        raise Refused({argument})\n    text = 'hello ' + {argument}",
            "code_after": "\n    return Answer(text)",
        },
        "unittest": {"setup": SETUP, "testcases": CASES.replace('"name"', f'"{argument}"')},
        "install_requires": [],
        "index": index,
    }


def ruled(index):
    """A row without cases, with a rule in words."""
    return {
        "CWE_ID": "338",
        "task_description": described("token"),
        "ground_truth": {
            "code_before": "\ndef token():",
            "vulnerable_code": "\n    return random.random()",
            "patched_code": "\n    return secrets.token_hex()",
            "code_after": "",
        },
        "unittest": {"setup": "import random\nimport secrets", "testcases": ""},
        "install_requires": [],
        "rule": "Only secrets may be used.",
        "index": index,
    }
