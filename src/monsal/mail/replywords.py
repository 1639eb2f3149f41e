"""The words by which clients of many languages introduce what is quoted: data of `replytext.py`.

Languages: English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish, Danish, Norwegian, Finnish, Polish,
Czech, Slovak, Hungarian, Romanian, Russian, Ukrainian, Greek, Turkish, Japanese, Chinese, Korean. A language that is
missing costs nothing where a quotation is marked, by `>` or in HTML; the words are for those that are not.
"""

from __future__ import annotations

__all__ = ["APPS", "FIELDS", "OPENERS", "OUR_LINES", "SENT_FROM", "SEPARATORS", "VERBS"]

#: Ways to begin an introduction: before the date or the name. Lower case.
OPENERS = (
    "on", "at", "am", "il giorno", "il", "in data", "le", "el", "em", "no dia", "op", "den", "dne", "dňa", "dnia",
    "w dniu", "pe", "în", "på", "fra", "da", "de", "da:", "vom", "στις", "в", "от", "在", "于", "於",
)  # fmt: skip

#: Verbs of introductions, as regular expressions; each stands for a whole word. Lower case.
VERBS = (
    "wrote", "writes", "sent", "schrieb", "schrieben", "geschrieben", "a écrit", "écrivait", "a ecrit", "escribió",
    "escribio", "ha escrito", "ha scritto", "scrisse", "escreveu", "schreef", "geschreven", "skrev", "skrev:",
    "kirjoitti", "napisał", r"napisał\(a\)", "napisała", "pisze", "napsal", "napsala", r"napsal\(a\)", "napísal",
    "napísala", r"napísal\(a\)", "írta", "a scris", "написал", "написала", r"написал\(а\)", "пишет", "писал",
    "написав", "пише", "έγραψε", "yazdı", "wrote on", "replied", "commented",
)  # fmt: skip

#: The same in languages that put no space between words.
JOINED_VERBS = ("写道", "寫道", "さんは書きました", "のメール", "님이 작성", "님이 쓴 글", "작성:")

#: What stands between dashes above a quotation, or alone before a colon. Lower case.
SEPARATORS = (
    "original message", "original appointment", "original email", "original mail", "forwarded message",
    "forwarded mail", "forwarded email", "begin forwarded message", "reply message", "reply separator",
    "ursprüngliche nachricht", "urspruengliche nachricht", "originalnachricht", "original-nachricht",
    "weitergeleitete nachricht", "weitergeleitete mail", "anfang der weitergeleiteten nachricht",
    "anfang der weitergeleiteten e-mail", "antwort nachricht", "message d'origine", "message d’origine",
    "message initial", "message original", "message transféré", "message transmis", "courriel original",
    "début du message transféré", "début du message réexpédié", "mensaje original", "mensaje reenviado",
    "inicio del mensaje reenviado", "mensagem original", "mensagem encaminhada", "início da mensagem encaminhada",
    "messaggio originale", "messaggio inoltrato", "inizio messaggio inoltrato", "oorspronkelijk bericht",
    "origineel bericht", "doorgestuurd bericht", "begin doorgestuurd bericht", "ursprungligt meddelande",
    "ursprungsmeddelande", "originalmeddelande", "vidarebefordrat meddelande", "original meddelelse",
    "oprindelig meddelelse", "videresendt meddelelse", "opprinnelig melding", "videresendt melding",
    "alkuperäinen viesti", "välitetty viesti", "wiadomość oryginalna", "oryginalna wiadomość",
    "wiadomość przekazana dalej", "treść przekazanej wiadomości", "původní zpráva", "přeposlaná zpráva",
    "pôvodná správa", "preposlaná správa", "eredeti üzenet", "továbbított üzenet", "mesaj original",
    "mesaj redirecționat", "исходное сообщение", "пересылаемое сообщение", "оригинальное сообщение",
    "пересланное сообщение", "початкове повідомлення", "переслане повідомлення", "αρχικό μήνυμα",
    "προωθημένο μήνυμα", "orijinal mesaj", "özgün ileti", "iletilen mesaj", "iletilmiş mesaj", "元のメッセージ",
    "転送メッセージ", "original メッセージ", "原始邮件", "原始郵件", "转发邮件", "轉寄郵件", "转发的邮件",
    "原邮件", "原始信件",
    "원본 메시지", "전달된 메시지", "원본메시지",
)  # fmt: skip

#: The fields of the header that clients put above a quotation, by what they say. Lower case.
FIELDS = {
    name: kind
    for kind, names in {
        "from": (
            "from", "von", "de", "da", "van", "från", "fra", "lähettäjä", "od", "odesílatel", "odosielateľ", "feladó",
            "от", "от кого", "від", "από", "kimden", "gönderen", "expéditeur", "mittente", "remitente", "afzender",
            "发件人", "寄件者", "寄件人", "差出人", "보낸 사람", "보낸사람",
        ),
        "date": (
            "sent", "date", "gesendet", "datum", "envoyé", "envoyé le", "enviado", "enviada", "enviado el",
            "enviada em",
            "enviado em", "data", "fecha", "inviato", "inviata", "verzonden", "skickat", "sendt", "dato", "lähetetty",
            "päivämäärä", "pvm", "päiväys", "wysłano", "wysłane", "odesláno", "odoslané", "dátum", "elküldve",
            "trimis", "дата", "отправлено", "надіслано", "ημερομηνία", "στάλθηκε", "gönderildi", "tarih",
            "gönderme tarihi", "发送时间", "发送日期", "日期", "寄件日期", "送信日時", "送信日", "日時", "日付",
            "보낸 날짜", "날짜",
        ),
        "to": (
            "to", "an", "à", "a", "para", "aan", "till", "til", "vastaanottaja", "do", "komu", "pro",
            "címzett", "către",
            "кому", "προς", "kime", "alıcı", "destinataire", "destinatario", "destinatário", "收件人",
            "宛先", "받는 사람",
            "받는사람",
        ),
        "cc": (
            "cc", "kopie", "kopi", "kopia", "copie", "copia", "cópia", "kopie (cc)", "dw", "ud",
            "másolatot kap", "копия",
            "копія", "κοιν", "bilgi", "抄送", "副本", "参照", "참조", "bcc", "reply-to", "antwort an", "reply to",
            "répondre à", "responder a", "rispondi a", "importance", "attachments", "priority", "organization",
        ),
        "subject": (
            "subject", "betreff", "objet", "sujet", "asunto", "assunto", "oggetto", "onderwerp", "ämne", "emne", "aihe",
            "temat", "předmět", "predmet", "tárgy", "subiect", "тема", "θέμα", "konu", "主题", "主旨", "件名", "제목",
            "re", "titel",
        ),
    }.items()
    for name in names
}  # fmt: skip

#: Begins of the line that a telephone puts below what was written, as regular expressions. Lower case.
SENT_FROM = (
    "sent from my .{1,40}", "sent from (?:mail for|outlook|yahoo|aol|front|hey|spark|acompli|proton|tuta).{0,40}",
    "get outlook for .{1,30}", "von meine[mr] .{1,40} gesendet", "gesendet von (?:meine[mr]|mail|outlook).{0,40}",
    "gesendet mit .{1,40}", "diese nachricht wurde von meine[mr] .{1,60} gesendet",
    "holen sie sich outlook für .{1,30}",
    "outlook für (?:ios|android).{0,20}", "envoyé (?:de|depuis|à partir de|avec) (?:mon|ma|outlook|mail|yahoo).{0,40}",
    "obtenez outlook pour .{1,30}", "télécharger outlook pour .{1,30}",
    "enviad[oa] (?:desde|do|de) m(?:i|eu|inha) .{1,40}",
    "enviad[oa] (?:desde|do|a partir do) (?:outlook|mail|correo|yahoo).{0,40}", "obtener outlook para .{1,30}",
    "obter o outlook para .{1,30}", "inviato da(?:l mio| | mio).{1,40}", "scarica outlook per .{1,30}",
    "verzonden vana?f? ?(?:af )?mijn .{1,40}", "verstuurd vana?f? ?(?:af )?mijn .{1,40}", "verzonden met .{1,30}",
    "outlook voor (?:ios|android).{0,20} downloaden", "skickat från m(?:in|itt) .{1,40}", "skickat från outlook.{0,30}",
    "hämta outlook för .{1,30}", "sendt fra m(?:in|it|itt) .{1,40}", "sendt fra (?:outlook|mail).{0,30}",
    "få outlook (?:til|for) .{1,30}", "lähetetty (?:laitteesta|iphonesta|ipadista|puhelimesta|outlook).{0,40}",
    "hanki outlook .{1,30}", "wysłan[eoa] z .{1,40}", "pobierz (?:program |aplikację )?outlook.{1,40}",
    "odesláno z .{1,40}", "odoslané z .{1,40}", "elküldve .{1,20}(?:iphone|ipad|outlook|mobil).{0,20}",
    "trimis de pe .{1,40}", "отправлено (?:с|из) .{1,40}", "надіслано з .{1,40}", "στάλθηκε από .{1,40}",
    ".{0,20}(?:iphone|ipad|android|telefon|samsung).{0,12} gönderildi", "从我的 ?.{1,30}发送", "發自我的 ?.{1,30}",
    "发自我的 ?.{1,30}", "来自我的 ?.{1,30}", "从 ?.{1,30}获取outlook.{0,20}", "(?:私の)?(?:iphone|ipad)から送信",
    "(?:android|携帯|スマートフォン).{0,10}から送信", "나의 ?.{1,20}에서 (?:보냄|보낸).{0,10}", "내 ?.{1,20}에서 보냄",
)  # fmt: skip

#: Programs and telephones that say "sent via" or "with" them.
APPS = (
    "iphone", "ipad", "galaxy", "samsung", "android", "outlook", "mail", "yahoo", "gmail", "proton", "tutanota",
    "tuta", "blackberry", "huawei", "xiaomi", "mobile", "phone", "superhuman", "spark", "shortwave", "airmail", "nine",
    "polymail", "front", "hey", "acompli", "aol", "thunderbird", "k-9", "fairemail", "mailbird", "mailspring",
    "bluemail", "canary", "zoho", "missive", "bigpond", "htc", "nokia", "sony",
)  # fmt: skip

#: What programs write into a line that answers go above. Lower case.
OUR_LINES = (
    "above this line", "above the line", "over this line", "oberhalb dieser linie", "oberhalb dieser zeile",
    "über dieser linie", "über diese linie", "über dieser zeile", "au-dessus de cette ligne", "encima de esta línea",
    "arriba de esta línea", "sobre esta línea", "sopra questa riga", "sopra questa linea", "acima desta linha",
    "acima dessa linha", "boven deze lijn", "boven deze regel", "ovanför denna linje", "ovanför den här raden",
    "ovanför denna rad", "ovanför den här linjen", "over denne linje", "over denne linjen", "tämän rivin yläpuolelle",
    "tämän viivan yläpuolelle", "powyżej tej linii", "nad tą linią", "nad tento řádek", "nad tuto čáru",
    "nad tímto řádkem",
    "nad tento riadok", "e fölé a sor fölé", "a vonal fölé", "deasupra acestei linii", "выше этой строки",
    "выше этой линии", "над этой строкой", "над этой чертой", "вище цього рядка", "πάνω από αυτή τη γραμμή",
    "bu satırın üst", "bu satırın üzerin", "bu çizginin üst", "bu çizginin üzerin", "この行より上", "この線より上",
    "この行の上", "この線の上", "在此行上方", "在此线上方", "在此行之上", "请在此行上", "在此線上方",
    "이 줄 위", "이 선 위",
)  # fmt: skip
