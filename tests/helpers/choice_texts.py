"""Prompts with shared beginnings, and the two answers to choose from."""

HEADS = ["Describe the weakness of SQL injection first.\n", "Now something else:\n"]
TEXTS = [
    HEADS[0] + "def f(x): return x",
    HEADS[1] + "print(1)",
    HEADS[0] + "import os\nos.system('a much longer piece of code than the others')\n" * 3,
    HEADS[1] + "",
    HEADS[0] + "y",
]
SHARED = [HEADS[0], HEADS[1], HEADS[0], HEADS[1], HEADS[0]]
CHOICES = ("<answer>Vulnerable</answer>", "<answer>Not Vulnerable</answer>")
