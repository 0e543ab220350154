"""What can be counted in a text, and told from it: right for English, for Chinese, and for both in one text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Pattern

#: Scripts without spaces, of which each character counts as a word. The long mark belongs to both kinds of kana.
_CHARACTERS = r"\p{Han}\p{Hiragana}\p{Katakana}ーｰ"
#: A word holds letters, digits and marks; inside it may stand an apostrophe or a hyphen, and a point in a number.
_WORD = (
    rf"[{_CHARACTERS}]\p{{M}}*"
    rf"|[[\p{{L}}\p{{N}}\p{{M}}_]--[{_CHARACTERS}]]+"
    rf"(?:(?:['’\-‐]|(?<=\p{{N}})[.,](?=\p{{N}}))[[\p{{L}}\p{{N}}\p{{M}}_]--[{_CHARACTERS}]]+)*+"
)
#: A code block as in CommonMark, ended by its fence or by the text; and code inside a line, ended within its paragraph.
_CODE_BLOCK = r"(?ms)^ {0,3}(`{3,}|~{3,})[^\n]*(?:\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)|\Z)"
_CODE = r"(?<!`)(`+)(?!`)(?:(?!\n[ \t]*\n)[\s\S]){1,1000}?(?<!`)\1(?!`)"
#: An address ends before the punctuation of the sentence that it stands in.
_ADDRESS = r"(?i)\b(?:(?:https?|ftp|file)://|www\.)[!#-;=?-~]*[\w/=&#%~+\-]"
#: Inside a Latin word, before a number or a `=`, a `?` belongs to an address or to code.
_QUESTION_MARK = r"[？؟]|\?(?![\p{Latin}\p{Nd}=&])"
_HAS_WORD = r"[\p{L}\p{N}]"

#: A pattern that needs longer goes through ever more ways to match the same text.
REGEX_TIMEOUT_S = 0.5
#: How much of a text says what language it is in, in characters.
_SAMPLE = 20_000
#: Of longer texts so many words are compared; it keeps a comparison of two of them below a quarter of a second.
_COMPARED_WORDS = 50_000


@cache
def pattern(source: str) -> Pattern[str]:
    """A pattern of the regex library, which knows scripts; it is loaded when the first text is read."""
    import regex

    return regex.compile(source, flags=regex.VERSION1)


@lru_cache(maxsize=256)
def compile_regex(source: str) -> Pattern[str]:
    """A regular expression that somebody wrote. Raises ValueError, with the reason, if it is none."""
    import regex

    try:
        return regex.compile(source)
    except (regex.error, RecursionError) as error:
        raise ValueError(str(error)) from None


def has_match(source: str, text: str, *, timeout_s: float = REGEX_TIMEOUT_S) -> bool:
    """Whether a regular expression matches anywhere in a text.

    Raises TimeoutError if that is not found out in time, ValueError if it is no regular expression.
    """
    # Meanwhile other threads go on.
    return bool(compile_regex(source).search(text, timeout=timeout_s, concurrent=True))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, as they stand: a run of letters and digits, or one Han or Kana character.

    Punctuation and symbols are no words; ``don't``, ``well-known`` and ``3.14`` are one each. Other scripts without
    spaces (Thai, Khmer, Lao, Burmese) are not divided: what stands between spaces is one word.
    """
    return tuple(pattern(_WORD).findall(text))


def count_words(text: str) -> int:
    """How many words a text has, by :func:`words`."""
    return len(pattern(_WORD).findall(text))


def count_characters(text: str) -> int:
    """How many characters a text has, white space left out. An emoji of several code points counts as several."""
    return sum(map(len, text.split()))


def count_questions(text: str) -> int:
    """How many sentences end in a question mark, ``?``, ``？`` or ``؟``.

    ``??`` and ``?!`` end one sentence. Marks in code and in addresses do not count. A question without a mark is not
    seen, as when a Chinese one ends in 吗 or 呢 alone.
    """
    has_word = pattern(_HAS_WORD)
    sentences = pattern(_QUESTION_MARK).split(_prose(text))
    return sum(1 for sentence in sentences[:-1] if has_word.search(sentence))


def _prose(text: str) -> str:
    """The text without what nobody says: code and addresses. A word stands where they stood inside a sentence."""
    text = pattern(_CODE_BLOCK).sub(" ", text)
    text = pattern(_CODE).sub("0", text)
    return pattern(_ADDRESS).sub("0", text)


def similarity(a: str, b: str) -> float:
    """How alike two texts are, from 0 to 1: twice the longest common subsequence of words by the words of both.

    That is the F1 of ROUGE-L (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004). Order counts, case
    and punctuation do not. Two texts without words are alike. Of each text the first 50,000 words are compared.
    """
    return words_similarity(compared_words(a), compared_words(b))


def compared_words(text: str) -> Sequence[str]:
    """The words of a text as :func:`similarity` compares them: to take them once of what is compared often."""
    return words(text.casefold())[:_COMPARED_WORDS]


def words_similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """The similarity of two texts by their words."""
    from rapidfuzz.distance import Indel

    return float(Indel.normalized_similarity(first, second))


#: Languages that have a script to themselves, or nearly so.
_SCRIPT_LANGUAGES = {
    "Hangul": "ko",
    "Greek": "el",
    "Hebrew": "he",
    "Thai": "th",
    "Georgian": "ka",
    "Armenian": "hy",
    "Tamil": "ta",
}
#: The commonest words that hold a sentence together, for languages that share a script.
_FREQUENT_WORDS: Mapping[str, Mapping[str, str]] = {
    "Latin": {
        "en": "the of and to in is that it for you was with as on are be this have from or not by but what all can"
        " your which their there if do will how about so would when we they has an one at i my no more who out he"
        " she his her its were been than then them these those some could should must may each other only please",
        "de": "der die das und ist ein eine nicht sie ich es zu den von mit auf für im dem sich des auch als wie"
        " an werden wird aus bei oder einen einer einem nach wenn kann sind war haben hat nur noch durch über man"
        " aber was dass du wir sein ihre ihr bitte diese dieser dieses kein keine muss mehr um vom zum zur alle",
        "fr": "le la les de des et est un une du en que qui dans pour pas vous ne je ce il sur au plus par avec"
        " son se sont nous mais ou aux cette être ces votre vos tout elle fait leur si tu mon comme a été"
        " c'est d'un d'une qu'il n'est on à quand toi te lui leurs bien peu faire l'on y où deux peut sans"
        " très aussi même ont doit aucun entre veuillez",
        "es": "el la los las de que y en un una es no se por con para su lo como más del al este esta pero le ha si"
        " o sin sobre también me hay está son qué muy ser puede todo todos fue desde cuando entre tu yo eso esto"
        " porque tiene usted nos ya uno dos otro otra debe sus estos estas cada",
        "it": "il lo la gli le di che e è un una per non in con del della dei delle nel si sono da come più al alla"
        " ma questo questa anche i ha se o sul essere suo sua mi ci cosa quando dal nella io tu tutti molto può"
        " perché l'articolo dell' degli tra dopo stato deve ogni alle ai dalla uno due sulla",
        "pt": "o a os as de que e do da em um uma para com não é por mais no na se dos das ao como foi mas à você"
        " ser está são ou este esta isso pelo pela sua seu também quando muito já eu nos pode tem há até sem só"
        " ele ela entre qual ter esse essa deve todos cada nas uns umas às foram",
        "nl": "de het een en van is dat niet te in op voor met zijn die er aan je ik ook als maar om naar bij of uit"
        " dan wat kan deze wordt door over heeft nog worden hebben was geen moet u dit zo we hij ze mijn uw hun"
        " meer wel tot al zal kunnen alle waar welke bent onze",
        "sv": "och att det är en som på i för av med till den inte har jag du ett om de var kan men så vi från eller"
        " hur när ska finns detta också hade sig din mer vad man alla mycket dig denna då blir sin min här"
        " måste efter bara vara än dessa vid inga",
        "da": "og at det er en som på i for af med til den ikke har jeg du et om de var kan men så vi fra eller"
        " hvordan når skal findes dette også havde sig din mere hvad man alle meget dig denne da bliver sin min her"
        " efter kun være hvis blev ved disse ingen noget nogle",
        "no": "og at det er en som på i for av med til den ikke har jeg du et om de var kan men så vi fra eller"
        " hvordan når skal finnes dette også hadde seg din mer hva man alle mye deg denne da blir sin min her etter"
        " bare være hvis ble ved disse ingen noe noen",
        "fi": "ja on ei se että oli hän mutta ole tai kun niin myös ovat joka sen mitä voi jos kuin minä sinä"
        " ne olen tämä vain nyt sitä siitä hänen jotka olla mukaan kanssa joita tätä tämän pitää voit ette ole"
        " täytyy kaikki mikä missä miten sekä",
        "pl": "i w nie na się z że jest do to o jak po za co ale dla od czy są przez tak być może ma tym tego jego"
        " jej lub oraz już tylko tej gdy które który która także jeśli ich przed był było można bardzo kiedy"
        " ja ty my wy musi te ten ta proszę przy",
        "cs": "a je se na v že to s z do o i jako za ale by pro jsem jsou který která které byl bylo od po co tak jak"
        " k není nebo když jeho může také už jen podle být ve při ze jste tento této tyto musí prosím před více"
        " má si mezi",
        "sk": "a je sa na v že to s z do o aj ako za ale by pre som sú ktorý ktorá ktoré bol bolo od po čo tak k nie"
        " alebo keď jeho môže tiež už len podľa byť vo pri zo ste tento tejto tieto musí prosím pred viac má si"
        " medzi",
        "ro": "și de la în a cu pe nu este să o un că din mai care pentru ce se sunt au fost prin dar sau ca"
        " al ale lui ei acest această fi dacă poate când cum despre tot el ea noi voi eu tu trebuie unui unei"
        " într-un într-o acestea vă nici după",
        "hu": "a az és hogy nem is egy ez van volt de ha csak meg mint már vagy el még ki kell lehet azt ezt mert"
        " nagyon amely aki ami minden itt ott be fel én te ő mi ti ők lesz szerint után között sem ezek ön ezen"
        " alatt legyen",
        "tr": "ve bir bu da de için ile çok ne daha gibi olarak var ama olan mi mı kadar o en her sonra ben sen biz"
        " siz değil olduğu ya veya nasıl kendi şey ki diye göre ise yok hem bunu onun tüm lütfen olmalı olabilir"
        " üzerinde sadece tarafından",
        "vi": "và là của có không một các cho trong được người với này những đã để tôi bạn khi đó ra cũng về như"
        " từ đến nhiều sẽ làm thì rất hay tại vào phải gì nếu vì theo mà chúng ta nào bị hơn trên hãy xin",
        "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena ada anda mereka kita"
        " atau bisa adalah oleh sudah telah dapat seperti jika sebagai kami kamu apa lebih harus satu bagaimana"
        " tersebut hanya saat secara agar bukan semua setiap",
        "ca": "el la els les de que i en un una és no es per amb del al més com però aquest aquesta han són també ha"
        " dels va ser si o als molt sobre tot quan pel seu seva hi ho us entre cada heu ja aquests aquestes"
        " qualsevol mentre",
    },
    "Cyrillic": {
        "ru": "и в не на что я с он как это по но они к у мы вы за из от так же для ты бы его все она был было то или"
        " если при может только уже есть о их чтобы когда кто чем нет быть до вам этот эта эти который которые"
        " также ещё еще более очень можно нужно ваш",
        "uk": "і в не на що я з він як це по але вони до у ми ви за із від так же для ти б його всі вона був було то"
        " або якщо при може тільки вже є про їх щоб коли хто чим немає бути й та ці цей ця який які також ще"
        " більш дуже можна потрібно ваш",
        "bg": "и в не на че аз с той как това по но те към у ние вие за из от така се да са е ще ти го всички тя беше"
        " или ако при може само вече има техните когато кой няма бъде този тази тези който които също още повече"
        " много трябва вашият ли във със",
        "sr": "и у не на да ја с он како ово по али они ка ми ви за из од тако се су је ће ти га сви она био било или"
        " ако при може само већ има њих када ко нема бити овај ова ови који које такође још више веома треба ваш"
        " са што",
    },
    "Arabic": {
        "ar": "في من على أن إلى هذا هذه التي الذي لا ما مع هو هي عن كان كل أو إن لم قد بين ذلك بعد أنا أنت كما يمكن"
        " عند حتى ثم هناك لكن غير يجب هل و",
        "fa": "در به از که این را با است برای آن یک خود تا بر هم نیز شما من ما می شود شده یا اگر باید هر چه آنها"
        " بود کرد های ها و نمی",
        "ur": "کے میں کی ہے اور سے کا کو اس پر نے کہ ہیں یہ ایک بھی کر وہ جو تو نہیں تھا ہو آپ کیا لیے گا کوئی",
    },
    "Devanagari": {
        "hi": "के में की है और से का को इस पर ने कि हैं यह एक भी कर वह जो तो नहीं था हो आप क्या लिए गया कोई हम मैं",
        "mr": "आणि आहे या व हे ते मध्ये की च नाही तर होते आहेत एक त्या हा ही केले करा आपण काय साठी मी तुम्ही",
    },
}
#: The codes that :func:`language_of` can tell.
LANGUAGES = tuple(
    sorted({"zh", "ja", *_SCRIPT_LANGUAGES.values(), *chain(*_FREQUENT_WORDS.values())})
)

_EAST_ASIAN = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_KANA = r"[\p{Hiragana}\p{Katakana}]"
#: What a Han character, a kana or a Hangul syllable says takes about this many letters of an alphabet.
_DENSE_WEIGHTS = {_EAST_ASIAN: 3, r"\p{Hangul}": 2}
#: How much of a text is most of it. Chinese and Japanese texts name much in Latin letters and stay what they are.
_LEAST_SHARE = 0.6
_LEAST_EAST_ASIAN_SHARE = 0.5


def language_of(text: str) -> str:
    """The language that most of a text is in, as its BCP 47 primary code; ``""`` where it cannot be told.

    The script decides where it can: Chinese and Japanese are told apart by the kana, so Han characters alone are taken
    for Chinese. Languages that share a script are told apart by their most frequent words, which takes a sentence
    or two; one that is not in LANGUAGES may be taken for a near relative. Code and addresses are left out, and the
    first 20,000 characters decide.
    """
    return _language_of(text[:_SAMPLE])


@lru_cache(maxsize=512)
def _language_of(sample: str) -> str:
    """Takes a tenth of a millisecond; pages tell the same answers in their language again and again."""
    prose = _prose(sample)
    script = _main_script(prose)
    if script == _EAST_ASIAN:
        return "ja" if 10 * _count(_KANA, prose) >= _count(_EAST_ASIAN, prose) else "zh"
    name = script.removeprefix(r"\p{").removesuffix("}")
    if name in _FREQUENT_WORDS:
        return _by_frequent_words(name, Counter(words(prose.lower().replace("’", "'"))))
    return _SCRIPT_LANGUAGES.get(name, "")


def _main_script(text: str) -> str:
    """The pattern of the script that most of a text is in, by what its letters say; ``""`` if there is none."""
    names = [rf"\p{{{name}}}" for name in (*_SCRIPT_LANGUAGES, *_FREQUENT_WORDS)]
    letters = {script: _count(script, text) for script in (_EAST_ASIAN, *names)}
    others = max(_count(r"\p{L}", text) - sum(letters.values()), 0)
    weights = {script: count * _DENSE_WEIGHTS.get(script, 1) for script, count in letters.items()}
    main = max(weights, key=lambda script: weights[script])
    total = sum(weights.values()) + others
    share = _LEAST_SHARE if main != _EAST_ASIAN else _LEAST_EAST_ASIAN_SHARE
    return main if letters[main] >= 2 and weights[main] >= share * total else ""


def _count(character: str, text: str) -> int:
    return sum(map(len, pattern(f"{character}+").findall(text)))


def _by_frequent_words(script: str, found: Counter[str]) -> str:
    """The language whose frequent words stand in a text clearly oftener than those of any other."""
    hits: Counter[str] = Counter()
    scores: dict[str, float] = defaultdict(float)
    languages_of = _vocabulary(script)
    for word, count in found.items():
        for language in languages_of.get(word, ()):
            hits[language] += count
            # A word that several languages have says little about which of them it is.
            scores[language] += count / len(languages_of[word]) ** 2
    if not scores:
        return ""
    best = max(scores, key=lambda language: scores[language])
    second = max((score for language, score in scores.items() if language != best), default=0)
    is_clear = scores[best] >= 1.3 * second
    is_known = hits[best] >= max(2, 0.15 * found.total())
    return best if is_clear and is_known else ""


@cache
def _vocabulary(script: str) -> Mapping[str, Sequence[str]]:
    """Every frequent word of a script with the languages that have it."""
    languages_of: dict[str, list[str]] = {}
    for language, frequent in _FREQUENT_WORDS[script].items():
        for word in dict.fromkeys(frequent.split()):
            languages_of.setdefault(word, []).append(language)
    return languages_of
