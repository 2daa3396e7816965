"""The reward of the judge's own training: its verdict against the label."""

from seccoderx_lite.judge.verdict import VerdictForm, has_judge_format, parse_verdict


def label_reward(
    answer: str, is_vulnerable: bool, form: VerdictForm = "reason"
) -> dict[str, float]:
    """Return accuracy (0 or 1), format (0 or 0.2) and reward of a judge's answer.

    >>> label_reward("<think>joins text</think><answer>Vulnerable</answer>", True)
    {'accuracy': 1.0, 'format': 0.2, 'reward': 0.92}
    >>> label_reward("<answer>Vulnerable</answer>", False)
    {'accuracy': 0.0, 'format': 0.0, 'reward': 0.0}
    """
    expected = "vulnerable" if is_vulnerable else "safe"
    accuracy = float(parse_verdict(answer) == expected)
    shape = 0.2 if has_judge_format(answer, form) else 0.0
    return {"accuracy": accuracy, "format": shape, "reward": 0.9 * accuracy + 0.1 * shape}
