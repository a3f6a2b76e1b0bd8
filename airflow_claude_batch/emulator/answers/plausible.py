"""Values that look like what a field's name asks for: dates, invoice numbers, amounts, sentences."""

from __future__ import annotations

import datetime
import random
import re
import uuid
from collections.abc import Callable

_FIRST_NAMES = [
    "Ada",
    "Bram",
    "Chiara",
    "Daan",
    "Elif",
    "Femke",
    "Goran",
    "Hanna",
    "Ivo",
    "Jana",
    "Kofi",
    "Lena",
    "Marek",
    "Noor",
    "Oscar",
    "Priya",
]
_LAST_NAMES = [
    "Jansen",
    "Okafor",
    "Novak",
    "Rossi",
    "Meyer",
    "Larsen",
    "Dubois",
    "Silva",
    "Yilmaz",
    "Kowalska",
    "Brandt",
    "Osei",
]
_CITIES = ["Utrecht", "Leeds", "Porto", "Gdansk", "Lyon", "Aarhus", "Ghent", "Turin", "Bremen", "Cork"]
_COUNTRIES = [
    "Netherlands",
    "Portugal",
    "Poland",
    "France",
    "Denmark",
    "Belgium",
    "Italy",
    "Germany",
    "Ireland",
    "Spain",
]
_TOPICS = [
    "billing",
    "delivery",
    "login",
    "export",
    "pricing",
    "onboarding",
    "refund",
    "performance",
    "hosting",
    "integration",
]
_STREETS = ("Mill Lane", "Harbour Street", "Kerkstraat", "Station Road", "Rue des Lilas", "Orchard Avenue")
_COMPANIES = """\
Northwind Traders
Veldkamp & Zoon
Blue Harbour Ltd
Acme Logistics
Lindqvist AB
Brightwater GmbH
Mill Lane Foods
Orchard Software
Castellan Energy
Fjord Instruments""".splitlines()
_PRODUCTS = """\
Desk lamp
Ergonomic chair
USB-C dock
A4 paper, 500 sheets
Label printer
Standing desk
Noise-cancelling headset
Monitor arm, 27 inch
Toner cartridge, black
Whiteboard markers""".splitlines()
_TITLES = """\
Delayed delivery of the spring order
Request for a corrected invoice
Quarterly review of usage
Export stops at ten thousand rows
Change of the billing address
Renewal of the yearly plan""".splitlines()
_SENTENCES = """\
The amount on the invoice matches the order.
Payment is due within 30 days.
The customer asks for a replacement and is in a hurry.
Delivery took four days longer than agreed.
No further action is needed.
The export fails when the file has more than ten thousand rows.
Usage has grown steadily since March.
The team recommends a call before the renewal.
Two of the listed items were out of stock.
The tone is polite, but the problem has come up three times.
The terms allow either side to end the contract with a month's notice.
All figures are in line with the previous quarter.""".splitlines()
_FIRST_DAY, _DAYS = datetime.date(2025, 9, 1), 420

Chance = random.Random
_Maker = Callable[[Chance], str]


def words_of(name: str) -> str:
    """A field's name in small words with ``_`` between them: ``dueDate`` is ``due_date``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def text_named(name: str, chance: Chance) -> str:
    """A text for a field of this name; a sentence where the name says nothing."""
    words = words_of(name)
    for pattern, make in _TEXTS:
        if re.search(pattern, words):
            return make(chance)
    return sentence(chance)


def text_of_format(format: str, chance: Chance) -> str | None:
    """A text of a format of JSON Schema; None for one that is not known."""
    make = _FORMATS.get(format)
    return None if make is None else make(chance)


def text_fitting(pattern: str, chance: Chance) -> str | None:
    """A well-known kind of text that a whole pattern describes; None where it describes none of them."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    for make in _WELL_KNOWN:
        text = make(chance)
        if re.search(pattern, text):
            return text
    return None


def number_named(name: str, chance: Chance) -> float | None:
    """A number for a field of this name; None where the name says nothing."""
    words = words_of(name)
    for pattern, low, high, digits in _NUMBERS:
        if re.search(pattern, words):
            return round(low + chance.random() * (high - low), digits)
    return None


def sentence(chance: Chance) -> str:
    """One sentence."""
    return chance.choice(_SENTENCES)


def _sentences(chance: Chance) -> str:
    return " ".join(chance.sample(_SENTENCES, chance.randint(1, 2)))


def _day(chance: Chance) -> datetime.date:
    return _FIRST_DAY + datetime.timedelta(days=chance.randrange(_DAYS))


def _date(chance: Chance) -> str:
    return _day(chance).isoformat()


def _time(chance: Chance) -> str:
    return f"{chance.randint(8, 18):02}:{chance.randrange(60):02}:{chance.randrange(60):02}Z"


def _date_time(chance: Chance) -> str:
    return f"{_date(chance)}T{_time(chance)}"


def _person(chance: Chance) -> str:
    return f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"


def _email(chance: Chance) -> str:
    return f"{_person(chance).lower().replace(' ', '.')}@example.com"


def _url(chance: Chance) -> str:
    return f"https://example.com/{chance.choice(_TOPICS)}/{chance.randint(100, 999)}"


def _uuid(chance: Chance) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _address(chance: Chance) -> str:
    return f"{chance.randint(1, 120)} {chance.choice(_STREETS)}, {chance.choice(_CITIES)}"


def _amount(chance: Chance) -> str:
    return f"{chance.randint(1000, 500000) / 100:.2f}"


def _one_of(texts: str) -> _Maker:
    choices = texts.split(",")
    return lambda chance: chance.choice(choices)


def _numbered(template: str, digits: int) -> _Maker:
    return lambda chance: template.format(chance.randrange(10 ** (digits - 1), 10**digits))


def _product(chance: Chance) -> str:
    return chance.choice(_PRODUCTS)


_phone = _numbered("+44 20 7946 0{}", 3)
_invoice = _numbered("INV-2026-{}", 4)
_currency = _one_of("EUR,EUR,USD,GBP")
_country_code = _one_of("NL,GB,PT,PL,FR,DK,BE,IT,DE,IE")

_FORMATS: dict[str, _Maker] = {
    "date": _date,
    "date-time": _date_time,
    "time": _time,
    "duration": _one_of("P3DT4H,PT45M,P14D"),
    "email": _email,
    "hostname": _one_of("host.example.com,mail.example.org"),
    "ipv4": _numbered("192.0.2.{}", 2),
    "ipv6": _numbered("2001:db8::{}", 2),
    "uri": _url,
    "uuid": _uuid,
}
_WELL_KNOWN: tuple[_Maker, ...] = (
    *(_date, _date_time, _amount, _email, _uuid, _currency, _country_code, _phone, _invoice),
    _numbered("{}", 5),
)
_COMPANY = (
    r"(compan|vendor|supplier|seller|merchant|organi[sz]ation|employer|customer|client|issuer|buyer|brand)"
)
_COMPANY += r"y?(_name)?$"
_TOPIC = r"category|topic|label|(^|_)(tag|keyword|theme|class|kind|type|department|team)$"
_PROSE = (
    r"summary|description|comment|explanation|rationale|reason|note|feedback|abstract|answer|message|review"
)
_PROSE += r"|text|recommendation|action|step"
_PERSON = r"(^|_)(name|author|contact|person|recipient|signatory|assignee|owner|manager|sender|patient)$"

_TEXTS: tuple[tuple[str, _Maker], ...] = (
    (r"(^|_)e?mail", _email),
    (r"phone|mobile|(^|_)fax|(^|_)tel(_|$)", _phone),
    (r"(^|_)(url|uri|link|website|homepage)", _url),
    (r"invoice(_(no|nr|num|number|id|ref|reference))?$", _invoice),
    (r"((^|_)po|order)(_(no|nr|num|number|id|ref|reference))?$", _numbered("PO-{}", 5)),
    (r"(customer|account|client|supplier|vendor)_(no|nr|num|number|id|code)$", _numbered("C-{}", 5)),
    (r"iban", _numbered("GB29 NWBK 6016 1331 {}", 4)),
    (r"(^|_)vat_?(id|no|number)|tax_(id|no|number)", _numbered("GB{}", 9)),
    (r"(^|_)(uuid|guid)", _uuid),
    (r"currency", _currency),
    (r"country_(code|iso)|iso_country", _country_code),
    (r"country|nationality", lambda chance: chance.choice(_COUNTRIES)),
    (r"(^|_)(city|town|place|location)", lambda chance: chance.choice(_CITIES)),
    (r"(^|_)(zip|postcode|post_code|postal)", _numbered("{} AB", 4)),
    (r"address|street", _address),
    (r"first_name|given_name", lambda chance: chance.choice(_FIRST_NAMES)),
    (r"last_name|family_name|surname", lambda chance: chance.choice(_LAST_NAMES)),
    (r"product|(^|_)(item|article|goods|sku)(_name)?$", _product),
    (_COMPANY, lambda chance: chance.choice(_COMPANIES)),
    (r"timestamp|date_?time|_at$", _date_time),
    (r"(^|_)(date|day|due|birthday)(_|$)|_(on|until|since)$", _date),
    (r"(^|_)time$", _time),
    (r"(^|_)month$", lambda chance: f"{_day(chance):%B %Y}"),
    (r"(^|_)year$", lambda chance: str(_day(chance).year)),
    (r"amount|total|price|(^|_)(cost|fee|net|gross|tax|vat|balance|sum)(_|$)", _amount),
    (r"(^|_)(line|item|position|product|article|good|row)_(description|name|text|title)$", _product),
    (r"title|subject|headline", lambda chance: chance.choice(_TITLES)),
    (r"sentiment|mood|tone", _one_of("positive,neutral,negative")),
    (r"language_code|(^|_)lang$|locale", _one_of("en,nl,de,fr,pt")),
    (r"language", _one_of("English,Dutch,German,French,Portuguese")),
    (r"priority|severity|urgency|risk(_level)?$", _one_of("low,medium,high")),
    (r"(^|_)(status|state)$", _one_of("open,in progress,closed")),
    (r"(^|_)unit$", _one_of("pcs,kg,h")),
    (r"colou?r", _one_of("blue,green,grey,red")),
    (_TOPIC, lambda chance: chance.choice(_TOPICS)),
    (_PROSE, _sentences),
    (_PERSON, _person),
    (r"_name$", _person),
    (r"(^|_)(id|code|ref|reference|key|number|no|nr)$", _numbered("AB-{}", 5)),
)
_NUMBERS: tuple[tuple[str, float, float, int], ...] = (
    (r"confidence|probability|likelihood|(^|_)(share|ratio|fraction)", 0.5, 0.99, 2),
    (r"percent|(^|_)(pct|rate)(_|$)", 1, 25, 1),
    (r"rating|stars", 1, 5, 0),
    (r"score", 0.4, 0.98, 2),
    (r"quantity|(^|_)(qty|count|number|pieces|units)(_|$)|_count$", 1, 12, 0),
    (r"(^|_)year", 2024, 2026, 0),
    (r"(^|_)age(_|$)", 19, 78, 0),
    (r"(^|_)page", 1, 24, 0),
    (r"days", 7, 60, 0),
    (r"hours|minutes|seconds", 1, 48, 0),
    (r"latitude|(^|_)lat$", 45, 56, 4),
    (r"longitude|(^|_)(lon|lng)$", -3, 14, 4),
    (r"(^|_)unit_price|price", 4, 300, 2),
    (r"amount|total|(^|_)(cost|fee|net|gross|tax|vat|balance|sum|subtotal|revenue|salary)(_|$)", 20, 4000, 2),
)
