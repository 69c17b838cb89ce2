"""What a corpus, or a voice made of it, is shared under, and whom it names: by the speakers that are in it."""

from collections.abc import Iterable

from speakers import LICENCES, PACKAGES, SPEAKERS

from gru_audio.errors import DatasetError

_SHARED = {
    "cc-by-sa": "CC BY-SA 3.0, as most of its speech",
    "gpl-3": "GPL-3, for its speech is under GPL-2 or later, CC BY-SA 3.0, CC BY 3.0 and BSD-like",
}


def packages_of(speakers: Iterable[str]) -> list[str]:
    """The packages that speakers come from, in the table's order.

    Raises:
        DatasetError: the recipe does not know a speaker.
    """
    by_name = {speaker.name: speaker.package for speaker in SPEAKERS}
    names = set(speakers)
    if unknown := sorted(names - set(by_name)):
        raise DatasetError(
            f"speaker {unknown[0]}: not one of this recipe's; make the dataset with prepare.py"
        )
    found = {by_name[name] for name in names}
    return [package for package in PACKAGES if package in found]


def shared_under(speakers: Iterable[str]) -> str:
    """The licence of these speakers' clips, and of a voice where that counts as derived from them."""
    needs = max((PACKAGES[package].needs for package in packages_of(speakers)), key=LICENCES.index)
    return _SHARED[needs]


def attribution(speakers: Iterable[str]) -> str:
    """Who made the speech, package by package, each with its licence."""
    about = {package: PACKAGES[package] for package in packages_of(speakers)}
    return "; ".join(f"{of.credit} ({package} {of.version}: {of.licence})" for package, of in about.items())


def described(speakers: Iterable[str]) -> list[str]:
    """Each speaker with what is known of them: "ru-nsh (Russian, man)"."""
    who = {speaker.name: speaker.who for speaker in SPEAKERS}
    return [f"{name} ({who[name]})" for name in speakers]
