"""Uploads to a mock of the Hugging Face hub."""

import pytest
from huggingface_hub.errors import LocalTokenNotFoundError

from seccoderx_lite.cli.hub import push_folder, repository_for
from seccoderx_lite.core.errors import ModelError, RecipeError


class FakeHub:
    def __init__(self, error=None):
        self.error, self.created, self.files = error, {}, {}

    def create_repo(self, repository, *, private, exist_ok):
        if self.error:
            raise self.error
        assert exist_ok
        self.created[repository] = {"private": private}
        return f"https://hub.example/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.files[repo_id] = sorted(file.name for file in folder_path.iterdir())


def test_a_whole_folder_is_uploaded_to_a_private_repository(tmp_path):
    for name in ("README.md", "model.safetensors"):
        (tmp_path / name).write_text("x")
    hub = FakeHub()
    assert push_folder(tmp_path, "me/model", hub) == "https://hub.example/me/model"
    assert hub.created == {"me/model": {"private": True}}
    assert hub.files == {"me/model": ["README.md", "model.safetensors"]}


def test_a_failed_upload_says_where_the_export_is_and_how_to_log_in(tmp_path):
    hub = FakeHub(LocalTokenNotFoundError("no token"))
    with pytest.raises(ModelError, match=r"no token.*hf auth login") as caught:
        push_folder(tmp_path, "me/model", hub)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["model", "a/b/c", "me/", "", "me/my model"])
def test_a_repository_must_have_an_owner(name):
    with pytest.raises(RecipeError, match="must have the form ORG/NAME"):
        repository_for(name, "adapter", ["adapter"])


def test_each_of_several_formats_gets_a_repository_of_its_own():
    formats = ["adapter", "merged"]
    assert [repository_for("me/m", form, formats) for form in formats] == [
        "me/m-adapter",
        "me/m-merged",
    ]
