"""Upload an export to the Hugging Face hub."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from seccoderx_lite.core.errors import ModelError, RecipeError


def repository_for(name: str, form: str, formats: Sequence[str]) -> str:
    """Return the repository for one format: NAME, or NAME-FORMAT if several are pushed.

    Raises:
        RecipeError: the name is not ORG/NAME.

    >>> repository_for("me/model", "merged", ["merged"])
    'me/model'
    >>> repository_for("me/model", "merged", ["adapter", "merged"])
    'me/model-merged'
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise RecipeError(f"--push: must have the form ORG/NAME (got {name!r})")
    return name if len(formats) == 1 else f"{name}-{form}"


def push_folder(folder: Path, repository: str, api: Any = None) -> str:
    """Upload a folder and return the repository's URL; a missing repository is created as private.

    Raises:
        ModelError: not logged in, or the hub rejects the upload.
    """
    api = api or HfApi()
    try:
        address = str(api.create_repo(repository, private=True, exist_ok=True))
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Export of seccoderx-lite"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"--push {repository}: upload failed ({error}); the export is complete in {folder}; "
            "log in with `hf auth login`, check your write access, and push again"
        ) from error
    return address
