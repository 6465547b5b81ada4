use super::{Stage::*, *};

fn reply(line: &str) -> Reply {
    let (reply, _) = Reply::parse(format!("{line}\r\n").as_bytes())
        .expect("SMTP")
        .expect("whole");
    reply
}

/// `retry(provider)`, `retry(address)`, or the outcome's name.
fn verdict(stage: Stage, line: &str) -> String {
    match classify(stage, &reply(line)) {
        Outcome::Retry { fault, .. } => format!("retry({fault:?})").to_lowercase(),
        outcome => outcome.as_str().to_owned(),
    }
}

#[test]
fn answers_of_real_servers_are_understood() {
    for (stage, line, expected) in [
        // Taken.
        (Content, "250 2.0.0 Ok: queued as 4XqT7v2Zk9z1P", "accepted"),
        (Content, "250 OK id=1tDkZJ-000Bx2-1q", "accepted"),
        (
            Content,
            "250 2.0.0 OK  1700000000 a12si123456qkb.10 - gsmtp",
            "accepted",
        ),
        // The relay is not well, or does not want us: everybody fails.
        (Greeting, "554 No SMTP service here", "retry(provider)"),
        (Greeting, "421 4.7.0 Too many connections", "retry(provider)"),
        (
            Greeting,
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using a blocklist",
            "retry(provider)",
        ),
        (
            Hello,
            "502 5.5.2 Error: command not recognized",
            "retry(provider)",
        ),
        (
            Hello,
            "454 TLS not available due to temporary reason",
            "retry(provider)",
        ),
        (
            SignIn,
            "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6",
            "retry(provider)",
        ),
        (SignIn, "535 Incorrect authentication data", "retry(provider)"),
        (
            SignIn,
            "454 4.7.0 Temporary authentication failure",
            "retry(provider)",
        ),
        (
            SignIn,
            "534 5.7.9 Application-specific password required",
            "retry(provider)",
        ),
        (
            Sender,
            "530 5.7.0 Must issue a STARTTLS command first",
            "retry(provider)",
        ),
        (
            Sender,
            "530 5.7.57 Client not authenticated to send mail",
            "retry(provider)",
        ),
        (
            Sender,
            "553 5.7.1 <hub@example.org>: Sender address rejected: not owned by user hub",
            "retry(provider)",
        ),
        (Sender, "501 5.1.7 Invalid address", "retry(provider)"),
        (Sender, "452 4.3.1 Insufficient system storage", "retry(provider)"),
        (Sender, "451 4.7.1 Rate limit exceeded", "retry(provider)"),
        (Sender, "552 5.3.4 Message size exceeds fixed limit", "rejected"),
        (Sender, "552 Message size exceeds maximum permitted", "rejected"),
        (Recipient, "530 5.7.1 Authentication required", "retry(provider)"),
        (
            Recipient,
            "421 4.3.2 System not accepting network messages",
            "retry(provider)",
        ),
        (
            Recipient,
            "452 4.3.1 Insufficient system resources",
            "retry(provider)",
        ),
        (
            Recipient,
            "451 4.3.5 Server configuration problem",
            "retry(provider)",
        ),
        (Recipient, "454 4.7.0 TLS required", "retry(provider)"),
        (
            Data,
            "451 Temporary local problem - please try later",
            "retry(provider)",
        ),
        (
            Content,
            "451 4.3.0 Error: queue file write error",
            "retry(provider)",
        ),
        (
            Content,
            "452 4.3.1 Insufficient system storage",
            "retry(provider)",
        ),
        (Content, "452 Insufficient system storage", "retry(provider)"),
        (Content, "421 Timeout waiting for data", "retry(provider)"),
        (
            Content,
            "421 4.7.0 Try again later, closing connection",
            "retry(provider)",
        ),
        // A filter does not like this one message: the others go on.
        (
            Content,
            "451 4.7.1 Service unavailable - try again later",
            "retry(address)",
        ),
        (Content, "451 4.7.1 Content scan pending", "retry(address)"),
        (Content, "450 4.7.0 Message deferred", "retry(address)"),
        (Content, "451 Try again later", "retry(address)"),
        // This address is not well.
        (
            Recipient,
            "450 4.2.0 <ada@example.org>: Recipient address rejected: Greylisted",
            "retry(address)",
        ),
        (
            Recipient,
            "451 4.7.1 Greylisting in action, please come back later",
            "retry(address)",
        ),
        (Content, "451 4.7.1 Greylisted, try again", "retry(address)"),
        (
            Recipient,
            "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
            "retry(address)",
        ),
        (
            Recipient,
            "452 4.2.2 The recipient's inbox is out of storage space",
            "retry(address)",
        ),
        (
            Recipient,
            "450 4.1.2 <a@b.example>: Recipient address rejected: Domain not found",
            "retry(address)",
        ),
        (
            Recipient,
            "450 Requested mail action not taken: mailbox unavailable",
            "retry(address)",
        ),
        (
            Recipient,
            "451 Temporary recipient verify failure",
            "retry(address)",
        ),
        (Recipient, "552 5.2.2 Mailbox full", "retry(address)"),
        (
            Recipient,
            "552 5.2.2 The email account that you tried to reach is over quota",
            "retry(address)",
        ),
        (
            Recipient,
            "552 Requested mail action aborted: exceeded storage allocation",
            "retry(address)",
        ),
        (Recipient, "552 RCPT refused", "retry(address)"),
        (Recipient, "550 mailbox is full", "retry(address)"),
        (
            Recipient,
            "550 5.2.1 The user you are trying to contact is receiving mail too quickly",
            "retry(address)",
        ),
        (
            Recipient,
            "550-5.2.1 The user you are trying to contact is receiving mail at a rate that\r\n\
             550 5.2.1 prevents additional messages from being delivered.",
            "retry(address)",
        ),
        (
            Recipient,
            "550 5.2.1 Mailbox temporarily disabled",
            "retry(address)",
        ),
        (
            Content,
            "554 5.2.122 The recipient has exceeded their limit for the number of messages they can receive per hour",
            "retry(address)",
        ),
        (Recipient, "550 Too many messages for this user", "retry(address)"),
        // Refused, and nothing is said of the address.
        (Recipient, "550 TLS 1.0 is no longer supported", "rejected"),
        (
            Recipient,
            "550 5.5.0 This service is no longer available to you",
            "rejected",
        ),
        (
            Recipient,
            "550 Your account is no longer allowed to use this server",
            "rejected",
        ),
        (
            Recipient,
            "550 Sender rejected: unknown sender domain does not exist",
            "rejected",
        ),
        (
            Recipient,
            "550 Mail from unknown user blocked by policy",
            "rejected",
        ),
        (Recipient, "550 5.2.1 Not now", "rejected"),
        (Recipient, "553 sorry, your host is refused", "rejected"),
        (Recipient, "553 Requested action not taken", "rejected"),
        (Recipient, "554 Too many hops", "rejected"),
        (
            Recipient,
            "554 Recipient address rejected: Access denied",
            "rejected",
        ),
        (Content, "554 5.2.2 mailbox full", "retry(address)"),
        // Nobody there.
        (
            Recipient,
            "550 5.1.1 <a@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
            "gone",
        ),
        (
            Recipient,
            "550-5.1.1 The email account that you tried to reach does not exist.\r\n550 5.1.1 Please try",
            "gone",
        ),
        (
            Recipient,
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            "gone",
        ),
        (
            Recipient,
            "556 5.1.10 Domain does not accept mail (nullMX)",
            "gone",
        ),
        (Recipient, "550 5.1.6 Mailbox has moved", "gone"),
        (Recipient, "550 5.1.2 Host unknown", "gone"),
        (
            Recipient,
            "550 5.4.1 Recipient address rejected: Access denied. [AM0EUR02FT010.eop.example]",
            "gone",
        ),
        (
            Recipient,
            "550 5.2.1 The email account that you tried to reach is disabled",
            "gone",
        ),
        (Recipient, "550 no such user", "gone"),
        (
            Recipient,
            "550 The mail address ada@example.org does not exist",
            "gone",
        ),
        (Recipient, "554 This user no longer has a mailbox here", "gone"),
        (
            Recipient,
            "550 Recipient address rejected: User unknown in relay recipient table",
            "gone",
        ),
        (Recipient, "553 mailbox name not allowed", "gone"),
        (Recipient, "550 Unknown user", "gone"),
        (Recipient, "550 Unrouteable address", "gone"),
        (
            Recipient,
            "550 Requested action not taken: mailbox unavailable",
            "gone",
        ),
        (
            Recipient,
            "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)",
            "gone",
        ),
        (Recipient, "550 5.0.0 Recipient not found", "gone"),
        (
            Recipient,
            "551 User not local; please try <forward@example.net>",
            "gone",
        ),
        (Recipient, "553 5.1.3 The recipient address is not valid", "gone"),
        (Content, "550 5.1.1 User unknown", "gone"),
        (
            Content,
            "554 delivery error: This user doesn't have an account: user unknown",
            "gone",
        ),
        // Ours to fix.
        (Recipient, "550 relay not permitted", "rejected"),
        (Recipient, "550 5.7.1 Unable to relay", "rejected"),
        (
            Recipient,
            "554 5.7.1 <a@b.example>: Relay access denied",
            "rejected",
        ),
        (
            Recipient,
            "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
            "rejected",
        ),
        (
            Recipient,
            "550 5.7.1 Recipient rejected: User unknown to policy",
            "rejected",
        ),
        (Recipient, "550 blocked by policy", "rejected"),
        (Recipient, "550 Administrative prohibition", "rejected"),
        (Recipient, "552 5.3.4 Message too big for system", "rejected"),
        (Recipient, "552 5.7.0 This message was blocked", "rejected"),
        (Recipient, "501 5.5.4 Syntax error in parameters", "rejected"),
        (Data, "554 5.5.1 Error: no valid recipients", "rejected"),
        (
            Content,
            "550 5.7.26 Unauthenticated email from example.org is not accepted due to domain's DMARC policy",
            "rejected",
        ),
        (Content, "554 5.7.1 Spam message rejected", "rejected"),
        (
            Content,
            "552 5.2.3 Message length exceeds administrative limit",
            "rejected",
        ),
        (Content, "552 Message size exceeds maximum permitted", "rejected"),
        (Content, "554 Transaction failed", "rejected"),
    ] {
        assert_eq!(verdict(stage, line), expected, "{stage:?}: {line}");
    }
}

#[test]
fn greylisting_is_given_its_minutes() {
    let Outcome::Retry { after, .. } = classify(Recipient, &reply("451 4.7.1 Greylisted")) else {
        panic!("a retry");
    };
    assert_eq!(after, Some(GREYLIST_WAIT));
}

#[test]
fn the_relays_own_id_is_kept() {
    for (text, id) in [
        ("Ok: queued as 4XqT7v2Zk9z1P", Some("4XqT7v2Zk9z1P")),
        ("OK id=1tDkZJ-000Bx2-1q", Some("1tDkZJ-000Bx2-1q")),
        ("Ok 010001932f0d9c1e-000000", Some("010001932f0d9c1e-000000")),
        ("Message accepted", None),
        ("queued as ", None),
    ] {
        assert_eq!(queue_id(text).as_deref(), id, "{text}");
    }
}
