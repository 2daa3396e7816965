"""What changed since a git reference: in clones, submodules, and for renamed files."""

import subprocess

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data.git_changes import Changes, NotComparable, outermost_top


@pytest.fixture
def write(tmp_path):
    def write_file(name, content="x = 1\n"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return write_file


def git(folder, *arguments):
    options = ["user.name=t", "user.email=t@example.org", "protocol.file.allow=always"]
    settings = [part for option in options for part in ("-c", option)]
    command = ["git", *settings, "-c", "init.defaultBranch=main", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(write, tmp_path):
    write("a.py", "one\ntwo\nthree\nfour\n")
    write("same.py")
    write('odd "näme".py', "one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_changed_added_and_new_lines_are_reported(repository, write):
    changed = write("a.py", "one\nTWO\nthree\nfour\nfive\nsix\n")
    odd, new = write('odd "näme".py', "one\ntwo\n"), write("new.py")
    changes = Changes("HEAD")
    assert changes.lines_of(changed) == [(2, 2), (5, 6)]
    assert changes.lines_of(odd) == [(2, 2)]
    assert changes.lines_of(new) is None
    assert changes.lines_of(repository / "same.py") == []


def test_removed_lines_touch_their_neighbours(repository, write):
    assert Changes("HEAD").lines_of(write("a.py", "one\nfour\n")) == [(1, 2)]


def test_committed_changes_count_too(repository, write):
    path = write("a.py", "ONE\ntwo\nthree\nfour\n")
    git(repository, "commit", "-qam", "second")
    assert Changes("HEAD").lines_of(path) == []
    assert Changes("HEAD~1").lines_of(path) == [(1, 1)]


@pytest.mark.parametrize("reference", ["nosuch", "--output=x"])
def test_an_unknown_reference_is_an_error(repository, reference):
    with pytest.raises(DataError, match=f"--since: {reference} is not known in .*; run git fetch"):
        Changes(reference).lines_of(repository / "a.py")


def test_no_repository_is_an_error(write):
    with pytest.raises(DataError, match="is not in a git repository; remove --since"):
        Changes("HEAD").lines_of(write("a.py"))


def test_a_diff_program_of_the_repository_is_not_run(repository, write):
    git(repository, "config", "diff.external", "touch ran; false")
    write(".gitattributes", "*.py diff=evil\n")
    git(repository, "config", "diff.evil.textconv", "touch ran; false")
    assert Changes("HEAD").lines_of(write("a.py", "ONE\ntwo\nthree\nfour\n")) == [(1, 1)]
    assert not (repository / "ran").exists()


def test_a_file_that_git_takes_for_binary_is_compared(repository, write):
    write(".gitattributes", "*.py -diff\n")
    assert Changes("HEAD").lines_of(write("a.py", "ONE\ntwo\nthree\nfour\n")) == [(1, 1)]


def test_a_renamed_file_is_compared_with_its_old_name(repository):
    git(repository, "mv", "a.py", "b.py")
    moved = repository / "b.py"
    assert Changes("HEAD").lines_of(moved) == []
    moved.write_text("one\ntwo\nthree\nfour\nfive\n")
    assert Changes("HEAD").lines_of(moved) == [(5, 5)]


def test_what_the_reference_gained_meanwhile_is_no_change_of_the_branch(repository, write):
    git(repository, "checkout", "-qb", "feature")
    path = write("a.py", "ONE\ntwo\nthree\nfour\n")
    git(repository, "commit", "-qam", "feature")
    git(repository, "checkout", "-q", "-")
    main = git(repository, "rev-parse", "--abbrev-ref", "HEAD")
    write("a.py", "one\ntwo\nthree\nFOUR\n")
    git(repository, "commit", "-qam", "main moved on")
    git(repository, "checkout", "-q", "feature")
    assert Changes(main).lines_of(path) == [(1, 1)]


def test_a_hook_that_runs_for_another_repository_does_not_mislead(repository, write, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert Changes("HEAD").lines_of(write("a.py", "ONE\ntwo\nthree\nfour\n")) == [(1, 1)]


@pytest.fixture
def app(tmp_path):
    """A repository `app` with the submodule `lib`, one commit later than without it."""
    library, app = tmp_path / "library", tmp_path / "app"
    for folder in (library, app):
        folder.mkdir()
        git(folder, "init", "-q")
        (folder / "a.py").write_text("one\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "first")
    git(app, "submodule", "--quiet", "add", str(library), "lib")
    git(app, "commit", "-qm", "submodule")
    return app


def test_a_submodule_is_compared_with_the_commit_that_was_recorded(app):
    file = app / "lib" / "a.py"
    assert Changes("HEAD").lines_of(file, app) == []
    assert Changes("HEAD~1").lines_of(file, app) is None
    file.write_text("one\ntwo\n")
    git(app / "lib", "commit", "-qam", "second")
    assert Changes("HEAD").lines_of(file, app) == [(2, 2)]
    git(app, "commit", "-qam", "a newer submodule")
    assert Changes("HEAD").lines_of(file, app) == []
    assert Changes("HEAD~1").lines_of(file, app) == [(2, 2)]


def test_a_branch_of_the_submodule_is_not_taken_for_one_of_the_project(app):
    git(app / "lib", "branch", "only-here")
    with pytest.raises(DataError, match=r"only-here is not known in .*app;"):
        Changes("only-here").lines_of(app / "lib" / "a.py", app)


def test_a_submodule_without_the_recorded_commit_is_skipped_with_the_reason(app):
    wanted = git(app, "rev-parse", "HEAD:lib")
    git(app / "lib", "checkout", "-q", "--orphan", "new")
    git(app / "lib", "commit", "-qm", "no history")
    for branch in git(app / "lib", "branch", "--format=%(refname:short)").split():
        if branch != "new":
            git(app / "lib", "branch", "-D", branch)
    git(app / "lib", "remote", "remove", "origin")
    git(app / "lib", "reflog", "expire", "--expire=now", "--all")
    git(app / "lib", "gc", "-q", "--prune=now")
    with pytest.raises(NotComparable, match=f"submodule lib, which lacks commit {wanted[:12]}"):
        Changes("HEAD").lines_of(app / "lib" / "a.py", app)


def test_a_clone_inside_a_project_is_skipped_with_the_reason(app):
    git(app, "clone", "-q", str(app.parent / "library"), "vendor")
    with pytest.raises(NotComparable, match="is in another git repository"):
        Changes("HEAD").lines_of(app / "vendor" / "a.py", app)


def test_a_shallow_clone_says_how_to_get_the_reference(app):
    git(app.parent, "clone", "-q", "--depth", "1", f"file://{app}", "shallow")
    for reference in ("origin/other", "HEAD~1"):
        with pytest.raises(DataError, match=r"not known in .*shallow clone: .*fetch-depth: 0"):
            Changes(reference).lines_of(app.parent / "shallow" / "a.py")


def test_a_shallow_clone_without_a_common_commit_says_so(app):
    git(app, "branch", "old", "HEAD~1")
    shallow = app.parent / "shallow"
    git(app.parent, "clone", "-q", "--depth", "1", f"file://{app}", "shallow")
    git(shallow, "fetch", "-q", "--depth", "1", "origin", "old:old")
    with pytest.raises(DataError, match=r"no common commit in .*shallow clone"):
        Changes("old").lines_of(shallow / "a.py")


def test_the_outermost_repository_of_a_submodule_is_its_project(app, tmp_path):
    assert outermost_top(app / "lib" / "a.py") == app
    assert outermost_top(tmp_path) is None
