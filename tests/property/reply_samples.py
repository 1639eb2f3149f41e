"""Answers as clients of many languages write them; made up for these tests, after what the clients send.

Each is a name, the text, and what is new in it.
"""

from __future__ import annotations

__all__ = ["INTRODUCTIONS", "KEPT", "MARKUP", "OUR_LINES", "PHONES", "PROSE", "SEPARATORS"]

#: Introductions over a quotation that is marked, and over one that is not. The first word is the language.
INTRODUCTIONS = [
    "en On Fri, Nov 21, 2025 at 10:00 AM Alice Example <alice@example.org> wrote:",
    "en On Fri, Nov 21, 2025 at 10:00 AM Alice Example from a very long department\n<alice@example.org> wrote:",
    "en On Nov 21, 2025, at 12:47 PM, Alice <\nalice-416ffd3258d4d2fa4c85cfa4c44e1721d66e3e8f4@example.org>\nwrote:",
    "en On 2025-11-21 at 17:02, Alice <alice@example.org> writes:",
    "en At 2025-11-21 10:00:00, \"Alice\" <alice@example.org> wrote:",
    "en 2025-11-21 11:28 GMT+03:00 Alice Example <\nalice@example.org>:",
    "de Am 21.11.2025 um 10:00 schrieb Alice Example:",
    "de Am Fr., 21. Nov. 2025 um 10:00 Uhr schrieb Alice Example <\nalice@example.org>:",
    "de Am 21. November 2025 10:00:12 MEZ schrieb Alice <alice@example.org>:",
    "de Alice Example <alice@example.org> schrieb am Fr., 21. Nov. 2025, 10:00:",
    "fr Le ven. 21 nov. 2025 à 10:00, Alice Example <alice@example.org> a écrit :",
    "fr Le 21/11/2025 à 10:00, Alice a écrit\xa0:",
    "es El vie, 21 nov 2025 a las 10:00, Alice (<alice@example.org>) escribió:",
    "es El 21/11/25 a las 10:00, Alice escribió:",
    "it Il giorno ven 21 nov 2025 alle ore 10:00 Alice <alice@example.org> ha\nscritto:",
    "it Il 21/11/2025 10:00, Alice ha scritto:",
    "pt Em sex., 21 de nov. de 2025 às 10:00, Alice <alice@example.org> escreveu:",
    "pt Em 21/11/2025 10:00, Alice escreveu:",
    "nl Op vr 21 nov 2025 om 10:00 schreef Alice <alice@example.org>:",
    "nl Op 21-11-2025 om 10:00 schreef Alice:",
    "nl Op 21 nov. 2025, om 10:00 heeft Alice <alice@example.org> het volgende geschreven:",
    "pl pt., 21 lis 2025 o 10:00 Alice <alice@example.org> napisał(a):",
    "pl W dniu 21.11.2025 o 10:00, Alice pisze:",
    "ru пт, 21 нояб. 2025 г. в 10:00, Alice <alice@example.org>:",
    "ru 21.11.2025 10:00, Алиса пишет:",
    "ru 21 ноября 2025 г., в 10:00, Алиса <alice@example.org> написал(а):",
    "uk пт, 21 лист. 2025 р. о 10:00 Аліса <alice@example.org> пише:",
    "sv Den fre 21 nov. 2025 kl 10:00 skrev Alice <alice@example.org>:",
    "sv 21 nov. 2025 kl. 10:00 skrev Alice <alice@example.org>:",
    "da Den fre. 21. nov. 2025 kl. 10.00 skrev Alice <alice@example.org>:",
    "no fre. 21. nov. 2025 kl. 10:00 skrev Alice <alice@example.org>:",
    "fi pe 21. marrask. 2025 klo 10.00 Alice (alice@example.org) kirjoitti:",
    "fi Alice kirjoitti 21.11.2025 klo 10.00:",
    "cs pá 21. 11. 2025 v 10:00 odesílatel Alice <alice@example.org> napsal:",
    "hu Alice <alice@example.org> ezt írta (időpont: 2025. nov. 21., P, 10:00):",
    "ro În vin., 21 nov. 2025 la 10:00, Alice <alice@example.org> a scris:",
    "el Στις Παρ 21 Νοε 2025 στις 10:00 π.μ., ο χρήστης Alice <alice@example.org> έγραψε:",
    "tr Alice <alice@example.org>, 21 Kas 2025 Cum, 10:00 tarihinde şunu yazdı:",
    "ja 2025年11月21日(金) 10:00 Alice <alice@example.org>:",
    "ja 2025/11/21 10:00、Alice <alice@example.org>のメール:",
    "zh Alice <alice@example.org> 于2025年11月21日周五 10:00写道：",
    "zh 在 2025-11-21 10:00:00，\"Alice\" <alice@example.org> 写道：",
    "ko 2025년 11월 21일 (금) 오전 10:00, Alice <alice@example.org>님이 작성:",
]  # fmt: skip

#: What ends the text. The first word is the language.
SEPARATORS = [
    "en -----Original Message-----\nFrom: Alice",
    "en ---------- Forwarded message ---------\nFrom: Alice <alice@example.org>\nDate: Fri, Nov 21, 2025",
    "en Begin forwarded message:\n\nFrom: Alice <alice@example.org>",
    "en ________________________________\nFrom: Alice <alice@example.org>\nSent: Friday\nTo: Bob\nSubject: Pears",
    "en From: Alice Example [mailto:alice@example.org]\nSent: Friday, November 21, 2025 10:00\nTo: Bob\nSubject: Pears",
    "en *From:* Alice\n*Sent:* Friday\n*To:* Bob",
    "en Date: Fri, 21 Nov 2025 10:00:00 -0600\nTo: bob@example.com\nFrom: alice@example.org\nSubject: Pears",
    "en ---- On Fri, 21 Nov 2025 10:00:00 +0100 Alice <alice@example.org> wrote ----",
    "en -----Alice Example/ACME wrote: -----\nTo: bob@example.com",
    "de -----Ursprüngliche Nachricht-----\nVon: Alice",
    "de Von: Alice Example <alice@example.org>\nGesendet: Freitag, 21. November 2025 10:00\nAn: Bob\nBetreff: Birnen",
    "de Anfang der weitergeleiteten Nachricht:\n\nVon: Alice <alice@example.org>",
    "fr De : Alice <alice@example.org>\nEnvoyé : vendredi 21 novembre 2025 10:00\nÀ : Bob\nObjet : Poires",
    "fr -------- Message d'origine --------",
    "es De: Alice <alice@example.org>\nEnviado el: viernes, 21 de noviembre de 2025\nPara: Bob\nAsunto: Peras",
    "es ---------- Mensaje reenviado ----------",
    "it Da: Alice <alice@example.org>\nInviato: venerdì 21 novembre 2025 10:00\nA: Bob\nOggetto: Pere",
    "pt De: Alice <alice@example.org>\nEnviado: sexta-feira, 21 de novembro de 2025\nPara: Bob\nAssunto: Peras",
    "nl Van: Alice <alice@example.org>\nVerzonden: vrijdag 21 november 2025 10:00\nAan: Bob\nOnderwerp: Peren",
    "pl Od: Alice <alice@example.org>\nWysłano: piątek, 21 listopada 2025 10:00\nDo: Bob\nTemat: Gruszki",
    "sv Från: Alice <alice@example.org>\nSkickat: den 21 november 2025 10:00\nTill: Bob\nÄmne: Päron",
    "da Fra: Alice <alice@example.org>\nSendt: 21. november 2025 10:00\nTil: Bob\nEmne: Pærer",
    "fi Lähettäjä: Alice <alice@example.org>\nLähetetty: perjantai 21. 11. 2025\nVastaanottaja: Bob\nAihe: Omenat",
    "cs Od: Alice <alice@example.org>\nOdesláno: pátek 21. listopadu 2025 10:00\nKomu: Bob\nPředmět: Hrušky",
    "ru От: Алиса <alice@example.org>\nОтправлено: 21 ноября 2025 г. 10:00\nКому: Боб\nТема: Груши",
    "ru -------- Пересылаемое сообщение --------",
    "tr Kimden: Alice <alice@example.org>\nGönderildi: 21 Kasım 2025 Cuma 10:00\nKime: Bob\nKonu: Armut",
    "el Από: Alice <alice@example.org>\nΣτάλθηκε: Παρασκευή, 21 Νοεμβρίου 2025\nΠρος: Bob\nΘέμα: Αχλάδια",
    "ja 差出人: Alice <alice@example.org>\n送信日時: 2025年11月21日 10:00\n宛先: Bob\n件名: 梨",
    "zh 发件人: Alice <alice@example.org>\n发送时间: 2025年11月21日 10:00\n收件人: Bob\n主题: 梨",
    "zh ------------------ 原始邮件 ------------------",
    "ko 보낸 사람: Alice <alice@example.org>\n보낸 날짜: 2025년 11월 21일 금요일\n받는 사람: Bob\n제목: 배",
]

#: Lines of telephones and programs.
PHONES = [
    "Sent from my iPhone",
    "Sent from my Galaxy S24, please excuse typos",
    "Sent from Mail for Windows 10",
    "Sent via Superhuman ( https://sprh.mn/?vip=alice@example.org )",
    "Sent with Proton Mail secure email.",
    "Get Outlook for iOS<https://aka.ms/o0ukef>",
    "Sent from Yahoo Mail on Android",
    "Von meinem iPhone gesendet",
    "Gesendet von Outlook für Android<https://aka.ms/AAb9ysg>",
    "Gesendet mit der GMX Mail App",
    "Envoyé de mon iPhone",
    "Obtenez Outlook pour iOS",
    "Enviado desde mi iPhone",
    "Enviado do meu iPhone",
    "Inviato da iPhone",
    "Inviato dal mio Galaxy",
    "Verstuurd vanaf mijn iPhone",
    "Skickat från min iPhone",
    "Sendt fra min iPhone",
    "Lähetetty iPhonesta",
    "Wysłane z iPhone'a",
    "Odesláno z iPhonu",
    "Отправлено с iPhone",
    "iPhone'umdan gönderildi",
    "从我的iPhone发送",
    "iPhoneから送信",
    "나의 iPhone에서 보냄",
]

#: Lines of applications.
OUR_LINES = [
    "##- Please type your reply above this line -##",
    "--- Reply above this line ---",
    "== Bitte antworten Sie oberhalb dieser Linie ==",
    "##- Répondez au-dessus de cette ligne -##",
    "##- Escriba su respuesta por encima de esta línea -##",
    "--- Rispondi sopra questa riga ---",
    "##- Responda acima desta linha -##",
    "##- Typ uw antwoord boven deze lijn -##",
    "##- Odpowiedz powyżej tej linii -##",
    "##- Пожалуйста, пишите ответ выше этой строки -##",
    "##- この行より上に返信を入力してください -##",
    "##- 请在此行上方输入您的回复 -##",
    "##- Lütfen yanıtınızı bu satırın üzerine yazın -##",
]

#: Texts of several parts and what is new in them.
KEPT = [
    ("bottom", "On 21.11.2025 10:00, Alice wrote:\n> old\n> text\n\nanswer below\n", "answer below"),
    ("inline", "> one\nanswer one\n> two\nanswer two\n", "answer one\nanswer two"),
    ("around", "above\n\nOn 21.11.2025 10:00, Alice wrote:\n> old\n\nbelow\n", "above\n\nbelow"),
    ("same line", "yes On Wed, Apr 4, 2012 at 3:59 PM, bob@example.com wrote:\n> Hi", "yes"),
    ("levels", "new\n\nOn 21.11.2025 10:00, A wrote:\n> old\n>> older\n> > > oldest\n", "new"),
    ("foreign language", "jah\n\nR, 21. nov 2025 kell 10:00 Alice <alice@example.org> kirjutas:\n\n> vana\n", "jah"),
    ("wrapped foreign", "jah\n\nR, 21. nov 2025 kell 10:00\nAlice <alice@example.org> kirjutas:\n\n> vana\n", "jah"),
    ("no blank line", "Thanks\nOn 21.11.2025 10:00, Alice wrote:\n> old\n", "Thanks"),
    ("signature", "answer\n-- \nAlice\nphone 123\n", "answer"),
    ("signature without space", "answer\n--\nAlice\n", "answer"),
    ("dash", "answer\n—\nAlice\nExample Ltd\n", "answer"),
    ("name", "answer\n\n- Alice\n", "answer"),
    (
        "phone before quote",
        "answer\n\nSent from my iPhone\n\n> On Nov 21, 2025, at 10:00, Bob <b@c.d> wrote:\n> \n> x\n",
        "answer",
    ),
    ("signature before quote", "answer\n\n-- \nAlice\n\nOn 21.11.2025 10:00, Bob wrote:\n> old\n", "answer"),
    ("a name alone", "Alice Example wrote:\n> old\nnew\n", "new"),
    ("only a quotation", "> old\n", ""),
    ("quoted separator", "> -----Original Message-----\nanswer below\n", "answer below"),
    ("CRLF", "answer\r\n\r\nOn 21.11.2025 10:00, Alice wrote:\r\n> old\r\n", "answer"),
]

#: What looks like one of them and is prose.
PROSE = [
    "On the whole, as the poet wrote:\nall is well.",
    "From: here\nwe go on.",
    "From: Berlin\nTo: Paris\nDate: Friday\nTwo persons.",
    "I sent from my side what I had.",
    "The parcel was\nSent from my office on Monday",
    "Two -- or three -- of them.\n---\nEnd",
    "The agenda:\n1. On time\n2. To do: nothing",
    "- pears\n- apples",
    "My order:\n\n- pears",
    "Please write it above this line and not below.",
    "Am Freitag schrieb ich:\ngar nichts.",
    "Note: 1 of 2\nTo: be or not",
    "first part\n--\n" + "\n".join(f"line {number}" for number in range(12)),
]

_OLD = "<div>What would you like?</div>"
#: Answers of clients in HTML, without the plain text beside it. All of them say "Two pears" and nothing else is new.
MARKUP = [
    (
        "gmail",
        '<div dir="ltr">Two pears</div><br><div class="gmail_quote gmail_quote_container"><div dir="ltr" '
        'class="gmail_attr">R, 21. nov 2025 kirjutas Bob:<br></div><blockquote class="gmail_quote" '
        f'style="margin:0 0 0 .8ex">{_OLD}</blockquote></div>',
    ),
    ("gmail old", f'Two pears<div class="gmail_quote">Vana kiri:<div class="gmail_quote">{_OLD}</div></div>'),
    (
        "gmail signature",
        'Two pears<br clear="all"><span class="gmail_signature_prefix">-- </span><br><div class="gmail_signature" '
        f'data-smartmail="gmail_signature">Alice<br>Example Ltd</div><div class="gmail_quote">{_OLD}</div>',
    ),
    (
        "outlook web",
        '<div class="elementToProof">Two pears</div><div id="appendonsend"></div><hr style="display:inline-block">'
        f'<div id="divRplyFwdMsg"><b>Saatja:</b> Bob<br></div>{_OLD}',
    ),
    (
        "outlook desktop",
        '<div class="WordSection1"><p class="MsoNormal">Two pears</p><div style="border:none;border-top:solid #E1E1E1 '
        f'1.0pt;padding:3.0pt 0cm 0cm 0cm"><p><b>Saatja:</b> Bob</p></div>{_OLD}</div>',
    ),
    (
        "outlook mobile",
        f'Two pears<div id="ms-outlook-mobile-signature">Hanki Outlook</div>'
        f'<hr><div id="divRplyFwdMsg" dir="ltr">Saatja: Bob</div>{_OLD}',
    ),
    ("apple", f'<body>Two pears<br><div><br><blockquote type="cite">21. nov{_OLD}</blockquote></div></body>'),
    (
        "yahoo",
        f'<div>Two pears</div><div id="ydp2yahoo_quoted_1" class="ydp2yahoo_quoted yahoo_quoted">{_OLD}</div>',
    ),
    (
        "thunderbird",
        f'<p>Two pears</p><div class="moz-cite-prefix">21.11.2025 kirjutas Bob:</div><blockquote type="cite">{_OLD}'
        '</blockquote><div class="moz-signature">-- <br>Alice</div>',
    ),
    (
        "proton",
        '<div>Two pears</div><div class="protonmail_signature_block">Sent</div><div class="protonmail_quote">Vana:'
        f'<blockquote class="protonmail_quote" type="cite">{_OLD}</blockquote></div>',
    ),
    ("zimbra", f'<div>Two pears</div><hr id="zwchr" data-marker="__DIVIDER__"><div><b>Saatja: </b>Bob<br>{_OLD}</div>'),
    ("zoho", f'<div>Two pears</div><div class="zmail_extra"><div id="Zm-_Id">---- Bob ----</div>{_OLD}</div>'),
    ("gmx", f'<div>Two pears</div><div name="quote" style="margin:10px"><b>Saadetud:</b> Bob{_OLD}</div>'),
    ("hotmail", f'<div>Two pears<br><hr id="stopSpelling">Kuup&auml;ev: t&auml;na<br>{_OLD}</div>'),
    ("mail.ru", f"<p>Two pears</p><blockquote style='border-left:1px solid #0857A6'>21 nov: {_OLD}</blockquote>"),
    (
        "superhuman",
        f'<div>Two pears</div><div class="gmail_quote sh-color-black"><blockquote class="gmail_quote">{_OLD}'
        "</blockquote></div>",
    ),
    ("hey, front, airmail", f'<div>Two pears</div><blockquote class="front-blockquote">{_OLD}</blockquote>'),
    ("lotus", f"<font>Two pears</font><br><br>-----Bob/ACME wrote: -----<br>To: alice@example.org<br>{_OLD}"),
    ("round", f'<p>Two pears</p><p id="reply-intro">21.11 kirjutas Bob:</p><blockquote>{_OLD}</blockquote>'),
    ("hidden", f'<div style="display:none">preheader</div>Two pears<blockquote>{_OLD}</blockquote>'),
]  # fmt: skip
