"""UBL 2.1 invoices and credit notes, as Peppol BIS Billing 3.0 and EN 16931 have them, as plain values.

Sources: OASIS UBL 2.1; docs.peppol.eu/poacc/billing/3.0. The rule: amounts are held against each other; what does not
add up is not refused here but told, since whether that is a reason not to pay is the business's own rule.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from xml.etree.ElementTree import Element

import msgspec

from agents.intake.arrival import Arrival
from agents.intake.documents.xml import read_xml
from agents.intake.errors import UnreadableError
from agents.intake.readers import Item

_CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"
_CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"
_KINDS = {
    "{urn:oasis:names:specification:ubl:schema:xsd:Invoice-2}Invoice": "invoice",
    "{urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2}CreditNote": "credit_note",
}
_LINES_MAX = 10_000
_ATTACHMENTS_MAX = 100
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_CENT = Decimal("0.01")


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a document holds."""


class Party(_Value, frozen=True, kw_only=True):
    """A company: its names and ids, as far as they are given."""

    name: str = ""
    endpoint: str = ""
    scheme: str = ""
    ids: tuple[str, ...] = ()
    vat: str = ""
    legal_id: str = ""
    country: str = ""
    email: str = ""


class Charge(_Value, frozen=True, kw_only=True):
    """An allowance, or with ``is_charge`` a charge."""

    is_charge: bool
    amount: str
    reason: str = ""
    percent: str = ""
    category: str = ""


class Tax(_Value, frozen=True, kw_only=True):
    """The tax of one category and rate."""

    category: str
    percent: str
    taxable: str
    amount: str
    exemption: str = ""


class Line(_Value, frozen=True, kw_only=True):
    """One line. ``amount`` is without tax."""

    id: str
    name: str
    quantity: str
    unit: str
    amount: str
    price: str
    description: str = ""
    seller_item: str = ""
    category: str = ""
    percent: str = ""


class Payment(_Value, frozen=True, kw_only=True):
    """How and where to pay."""

    code: str = ""
    id: str = ""
    account: str = ""
    bank: str = ""


class Attachment(_Value, frozen=True, kw_only=True):
    """A document that comes along, by its SHA-256 (hex) in ``ORIGINALS``; or one that is elsewhere (``uri``)."""

    id: str
    name: str = ""
    type: str = ""
    size: int = 0
    digest: str = ""
    uri: str = ""


class Document(_Value, frozen=True, kw_only=True):
    """An invoice or credit note. Amounts are decimal text in ``currency``; ``payable_minor`` is in hundredths.

    ``problems`` says what does not add up, by the rule's name in EN 16931.
    """

    kind: str
    id: str
    issued: str
    due: str = ""
    type_code: str = ""
    currency: str
    customization: str = ""
    buyer_reference: str = ""
    order: str = ""
    corrects: tuple[str, ...] = ()
    note: str = ""
    supplier: Party
    customer: Party
    payee: str = ""
    payments: tuple[Payment, ...] = ()
    charges: tuple[Charge, ...] = ()
    taxes: tuple[Tax, ...] = ()
    tax: str = ""
    sum_of_lines: str
    without_tax: str = ""
    with_tax: str = ""
    prepaid: str = ""
    rounding: str = ""
    payable: str
    payable_minor: int
    lines: tuple[Line, ...]
    attachments: tuple[Attachment, ...] = ()
    problems: tuple[str, ...] = ()


def read_items(arrival: Arrival) -> Iterator[Item]:
    """The document of a file, as ``document``; raises ``UnreadableError``."""
    document, parts = read_ubl(arrival.data)
    variables = {"document": msgspec.to_builtins(document)}
    yield Item(key=arrival.key, data=arrival.data, variables=variables, parts=tuple(parts.values()))


def read_ubl(data: bytes) -> tuple[Document, dict[str, bytes]]:
    """The document, and the bytes of its attachments by digest.

    Raises ``UnreadableError`` naming the element that is missing or wrong.
    """
    root = read_xml(data)
    kind = _KINDS.get(root.tag)
    if kind is None:
        raise UnreadableError(f"{root.tag} is neither a UBL 2.1 invoice nor a credit note", "the root element")
    line, quantity = (
        ("InvoiceLine", "InvoicedQuantity") if kind == "invoice" else ("CreditNoteLine", "CreditedQuantity")
    )
    total = _one(root, f"{_CAC}LegalMonetaryTotal")
    lines = root.findall(f"{_CAC}{line}")
    if not 1 <= len(lines) <= _LINES_MAX:
        raise UnreadableError(f"{len(lines)} lines; 1 to {_LINES_MAX} are read", line)
    attachments, parts = _attachments(root)
    currency = _required(root, "DocumentCurrencyCode")
    payable = _amount(total, "PayableAmount", required=True)
    document = Document(
        kind=kind,
        id=_required(root, "ID"),
        issued=_required(root, "IssueDate"),
        due=_text(root, "DueDate") or _text(root, "PaymentDueDate", f"{_CAC}PaymentMeans/"),
        type_code=_text(root, "InvoiceTypeCode" if kind == "invoice" else "CreditNoteTypeCode"),
        currency=currency,
        customization=_text(root, "CustomizationID"),
        buyer_reference=_text(root, "BuyerReference"),
        order=_text(root, "ID", f"{_CAC}OrderReference/"),
        corrects=_texts(root, f"{_CAC}BillingReference/{_CAC}InvoiceDocumentReference/{_CBC}ID"),
        note="\n".join(_texts(root, f"{_CBC}Note")),
        supplier=_party(_one(root, f"{_CAC}AccountingSupplierParty/{_CAC}Party")),
        customer=_party(_one(root, f"{_CAC}AccountingCustomerParty/{_CAC}Party")),
        payee=_text(root, "Name", f"{_CAC}PayeeParty/{_CAC}PartyName/"),
        payments=tuple(_payment(each) for each in root.findall(f"{_CAC}PaymentMeans")),
        charges=tuple(_charge(each) for each in root.findall(f"{_CAC}AllowanceCharge")),
        taxes=tuple(_tax(each) for each in root.findall(f"{_CAC}TaxTotal/{_CAC}TaxSubtotal")),
        tax=_tax_total(root, currency),
        sum_of_lines=_amount(total, "LineExtensionAmount", required=True),
        without_tax=_amount(total, "TaxExclusiveAmount"),
        with_tax=_amount(total, "TaxInclusiveAmount"),
        prepaid=_amount(total, "PrepaidAmount"),
        rounding=_amount(total, "PayableRoundingAmount"),
        payable=payable,
        payable_minor=int((Decimal(payable) * 100).to_integral_value()),
        lines=tuple(_line(each, quantity) for each in lines),
        attachments=attachments,
    )
    return msgspec.structs.replace(document, problems=tuple(_problems(document))), parts


def _problems(document: Document) -> Iterator[str]:
    """The rules of EN 16931 on totals that do not hold."""

    def number(text: str) -> Decimal:
        return Decimal(text or "0")

    lines = sum((number(line.amount) for line in document.lines), Decimal(0))
    charges = sum((number(each.amount) * (1 if each.is_charge else -1) for each in document.charges), Decimal(0))
    taxes = sum((number(each.amount) for each in document.taxes), Decimal(0))
    exclusive, inclusive = number(document.without_tax), number(document.with_tax)
    due = inclusive - number(document.prepaid) + number(document.rounding)
    rules = (
        ("BR-CO-10", "the lines", lines, number(document.sum_of_lines)),
        ("BR-CO-13", "the amount without tax", number(document.sum_of_lines) + charges, exclusive),
        ("BR-CO-14", "the tax", taxes, number(document.tax)),
        ("BR-CO-15", "the amount with tax", exclusive + number(document.tax), inclusive),
        ("BR-CO-16", "the amount due", due, number(document.payable)),
    )
    for name, what, computed, stated in rules:
        if abs(computed - stated) >= _CENT:
            yield f"{name}: {what} should be {computed}, not {stated}"
    if document.kind == "invoice" and not document.due and number(document.payable) > 0 and not document.payments:
        yield "BR-CO-25: neither a due date nor how to pay"


def _party(party: Element) -> Party:
    endpoint = party.find(f"{_CBC}EndpointID")
    vat = [
        _text(each, "CompanyID")
        for each in party.findall(f"{_CAC}PartyTaxScheme")
        if _text(each, "ID", f"{_CAC}TaxScheme/") == "VAT"
    ]
    return Party(
        name=_text(party, "Name", f"{_CAC}PartyName/") or _text(party, "RegistrationName", f"{_CAC}PartyLegalEntity/"),
        endpoint=_said(endpoint),
        scheme="" if endpoint is None else endpoint.get("schemeID", ""),
        ids=_texts(party, f"{_CAC}PartyIdentification/{_CBC}ID"),
        vat=vat[0] if vat else "",
        legal_id=_text(party, "CompanyID", f"{_CAC}PartyLegalEntity/"),
        country=_text(party, "IdentificationCode", f"{_CAC}PostalAddress/{_CAC}Country/"),
        email=_text(party, "ElectronicMail", f"{_CAC}Contact/"),
    )


def _payment(means: Element) -> Payment:
    account = f"{_CAC}PayeeFinancialAccount/"
    return Payment(
        code=_text(means, "PaymentMeansCode"),
        id=_text(means, "PaymentID"),
        account=_text(means, "ID", account),
        bank=_text(means, "ID", f"{account}{_CAC}FinancialInstitutionBranch/"),
    )


def _charge(charge: Element) -> Charge:
    return Charge(
        is_charge=_required(charge, "ChargeIndicator").lower() == "true",
        amount=_amount(charge, "Amount", required=True),
        reason=_text(charge, "AllowanceChargeReason"),
        percent=_amount(charge, "MultiplierFactorNumeric"),
        category=_text(charge, "ID", f"{_CAC}TaxCategory/"),
    )


def _tax(subtotal: Element) -> Tax:
    category = _one(subtotal, f"{_CAC}TaxCategory")
    return Tax(
        category=_text(category, "ID"),
        percent=_amount(category, "Percent"),
        taxable=_amount(subtotal, "TaxableAmount", required=True),
        amount=_amount(subtotal, "TaxAmount", required=True),
        exemption=_text(category, "TaxExemptionReason") or _text(category, "TaxExemptionReasonCode"),
    )


def _tax_total(root: Element, currency: str) -> str:
    """The total in the document's own currency: there may be one in the currency of accounting too."""
    amounts = root.findall(f"{_CAC}TaxTotal/{_CBC}TaxAmount")
    own = [each for each in amounts if each.get("currencyID", currency) == currency]
    return _decimal(_said(own[0]), "TaxAmount") if own else ""


def _line(line: Element, quantity: str) -> Line:
    item, amount = _one(line, f"{_CAC}Item"), line.find(f"{_CBC}{quantity}")
    category = f"{_CAC}ClassifiedTaxCategory/"
    return Line(
        id=_required(line, "ID"),
        name=_required(item, "Name"),
        quantity=_decimal(_said(amount), quantity) if amount is not None else "",
        unit="" if amount is None else amount.get("unitCode", ""),
        amount=_amount(line, "LineExtensionAmount", required=True),
        price=_amount(line, "PriceAmount", f"{_CAC}Price/"),
        description=_text(item, "Description"),
        seller_item=_text(item, "ID", f"{_CAC}SellersItemIdentification/"),
        category=_text(item, "ID", category),
        percent=_amount(item, "Percent", category),
    )


def _attachments(root: Element) -> tuple[tuple[Attachment, ...], dict[str, bytes]]:
    found: list[Attachment] = []
    parts: dict[str, bytes] = {}
    references = root.findall(f"{_CAC}AdditionalDocumentReference")
    if len(references) > _ATTACHMENTS_MAX:
        raise UnreadableError(f"{len(references)} documents come along; {_ATTACHMENTS_MAX} are read")
    for reference in references:
        name = _text(reference, "ID")
        embedded = reference.find(f"{_CAC}Attachment/{_CBC}EmbeddedDocumentBinaryObject")
        uri = _text(reference, "URI", f"{_CAC}Attachment/{_CAC}ExternalReference/")
        if embedded is None:
            found.append(Attachment(id=name, uri=uri))
            continue
        try:
            data = base64.b64decode("".join((embedded.text or "").split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise UnreadableError(f"the embedded document is no base64: {error}", f"document {name}") from error
        digest = sha256(data).hexdigest()
        parts[digest] = data
        file = embedded.get("filename", "").replace("\\", "/").rpartition("/")[2]
        file = "".join(each for each in file if each.isprintable()).strip(". ")[:200]
        found.append(Attachment(id=name, name=file, type=embedded.get("mimeCode", ""), size=len(data), digest=digest))
    return tuple(found), parts


def _one(element: Element, path: str) -> Element:
    found = element.find(path)
    if found is None:
        raise UnreadableError("is missing", _plain(path))
    return found


def _said(element: Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _text(element: Element, name: str, under: str = "") -> str:
    return _said(element.find(f"{under}{_CBC}{name}"))


def _texts(element: Element, path: str) -> tuple[str, ...]:
    return tuple(_said(each) for each in element.findall(path) if _said(each))


def _required(element: Element, name: str) -> str:
    found = _text(element, name)
    if not found:
        raise UnreadableError("is missing", name)
    return found


def _amount(element: Element, name: str, under: str = "", *, required: bool = False) -> str:
    found = _required(element, name) if required else _text(element, name, under)
    return _decimal(found, name) if found else ""


def _decimal(text: str, name: str) -> str:
    """The number as it stands, if it is one (xs:decimal has no exponent)."""
    if len(text) > 40 or not _DECIMAL.fullmatch(text):
        raise UnreadableError(f"{text[:40]!r} is no number", name)
    return text


def _plain(path: str) -> str:
    return path.replace(_CAC, "").replace(_CBC, "")
