"""What pages name exists: files, links, pictures, make targets, quotations, removed keys."""

import importlib
import pkgutil
import re

import pytest
import yaml
from PIL import Image
from shown import PAGES, ROOT, WRITTEN_BY_THE_READER, is_placeholder, text_of

PLUGINS = {
    "embedding_instance_seg": "MODEL.EMBEDDING_INSTANCE_SEG",
    "recurrent_instance_seg": "MODEL.RECURRENT_INSTANCE_SEG",
}


def prose_of(page):
    """Its text without fenced blocks."""
    return re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_the_text_exist(page):
    bases = [ROOT, (ROOT / page).parent, ROOT / "configs", *ROOT.glob("projects/*/")]
    bases += [init.parent for init in ROOT.glob("projects/*/*/__init__.py")]
    pattern = r"`([\w*./-]+/[\w*.-]+\.(?:py|yaml|md|pth|json|csv))`"
    for name in re.findall(pattern, prose_of(page)):
        if not is_placeholder(name) and name not in WRITTEN_BY_THE_READER:
            assert any(list(base.glob(name)) for base in bases), name


def anchors(file):
    """Of the headings of a page, as GitHub and its like make them."""
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_every_picture_is_shown_with_words_for_who_cannot_see_it():
    shown = {}
    for page in PAGES:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text_of(page)):
            shown[((ROOT / page).parent / target).resolve()] = words
    assert {f.resolve() for f in ROOT.glob("docs/*.png")} == set(shown)
    assert all(len(words.split()) >= 5 for words in shown.values())


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), flags=re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([a-z][\w-]*)", text_of(page), flags=re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith(("docs/", "datasets/"))])
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    Image.new("RGB", (64, 64)).save(tmp_path / "my_image.png")
    for script in re.findall(r"```python\n(.*?)```", text_of(page), flags=re.DOTALL):
        exec(script, {})


@pytest.mark.parametrize("page", [p for p in PAGES if re.match(r"projects/.+/README", p)])
def test_the_readme_of_a_plugin_is_short(page):
    assert len(text_of(page).splitlines()) <= 120


def words_of(source):
    """A module's text in one line: strings in parts joined, comments and prose without breaks."""
    without_seams = re.sub(r"\"\s+f?\"|^\s*# ?", " ", source, flags=re.MULTILINE)
    return " ".join(without_seams.split())


def test_contributing_quotes_what_stands_in_the_code():
    rows = re.findall(r"`([\w/]+\.py)`: \"([^\"|]+)\"", text_of("CONTRIBUTING.md"))
    assert len(rows) >= 6
    for name, quotation in rows:
        files = [*ROOT.glob(f"projects/*/*/{name}"), *ROOT.glob(f"projects/*/{name}")]
        assert any(quotation in words_of(file.read_text()) for file in files), (name, quotation)


@pytest.mark.parametrize(("package", "node"), PLUGINS.items())
def test_the_changelog_says_what_became_of_each_removed_key(package, node):
    removed = importlib.import_module(f"{package}.config").REMOVED_KEYS
    sections = re.findall(rf"^### Keys of `{node}`\n(.*?)^##", text_of("CHANGELOG.md"), re.M | re.S)
    listed = re.findall(r"^\| `(\w+)` \| \S", "".join(sections), flags=re.MULTILINE)
    assert removed
    assert sorted(f"{node}.{key}" for key in listed) == sorted(removed)


def resolves(name):
    """Whether a dotted name is a module, or something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_modules_that_pages_name_exist():
    """In CHANGELOG.md those of the right column; the left one has what is no more."""
    section = text_of("CHANGELOG.md").split("### Modules")[1].split("###")[0]
    rows = re.findall(r"^\| `.*?\|(.*)\|$", section, flags=re.MULTILINE)
    texts = [*rows, text_of("projects/README.md"), text_of("CONTRIBUTING.md")]
    pattern = r"`((?:instance_seg_|otsu_|embedding_|recurrent_)\w+(?:\.\w+)+)`"
    names = {name for text in texts for name in re.findall(pattern, text)}
    assert len(names) >= 10
    assert [name for name in sorted(names) if not resolves(name)] == []


def test_versions_agree():
    version = re.search(r'version="([\d.]+)"', text_of("setup.py")).group(1)
    citation = yaml.safe_load(text_of("CITATION.cff"))
    newest = re.search(r"^## ([\d.]+)$", text_of("CHANGELOG.md"), flags=re.MULTILINE).group(1)
    assert version == citation["version"] == newest
    assert citation["cff-version"] == "1.2.0"


def test_the_hosted_workflow_runs_what_everybody_runs():
    workflow = yaml.safe_load(text_of(".github/workflows/tests.yml"))
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["tests"]["steps"]]
