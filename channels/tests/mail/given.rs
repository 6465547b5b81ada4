//! What the tests start from: the servers' addresses, a configuration, a piece of work.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use carillon_channels::email::{AuthMechanism, EmailChannel, EmailConfig, Security};
use carillon_domain::{
    Category, Content, DeliveryId, Fault, NotificationId, Outcome, Priority, Timestamp,
    ports::{Channel as _, Forms, Message, NotificationMessage, Operation, Report, Work},
};
use serde_json::Value;

/// The moment at which everything was created.
pub(crate) const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: `tests/run.sh build mail` starts the mail servers"))
}

/// Where the servers keep their certificates and what they are sent.
pub(crate) fn folder() -> PathBuf {
    variable("CARILLON_TEST_MAIL_FOLDER").into()
}

/// A relay at `host:port`, without TLS and sign-in.
pub(crate) fn at(address: &str) -> EmailConfig {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    EmailConfig {
        host: Some(host.to_owned()),
        port: Some(port.parse().expect("a port")),
        security: Security::None,
        from: Some("hub@example.net".to_owned()),
        ..EmailConfig::default()
    }
}

/// The sink, without TLS and sign-in.
pub(crate) fn sink() -> EmailConfig {
    at(&variable("CARILLON_TEST_SMTP"))
}

/// A server of ours over TLS, signed in to.
pub(crate) fn secured(server: &str, security: Security, auth: AuthMechanism, password: &str) -> EmailConfig {
    EmailConfig {
        security,
        ca_file: Some(folder().join("authority.pem")),
        auth,
        username: Some("hub".to_owned()),
        password: Some(password.into()),
        ..at(&variable(server))
    }
}

pub(crate) fn channel(config: &EmailConfig) -> Arc<EmailChannel> {
    assert_eq!(config.validate(), Ok(()));
    Arc::new(EmailChannel::new(config).expect("usable").expect("a relay"))
}

/// A notification for `to`, under a delivery of its own.
pub(crate) fn work(to: &str) -> Work {
    let notification = NotificationMessage {
        notification: NotificationId::at(AT),
        category: Category::default(),
        priority: Priority::Normal,
        collapse_key: None,
        content: Arc::new(Content {
            title: "Größe überschritten".into(),
            body: Some("Zeile eins\n.\n..Zeile drei".into()),
            url: Some("https://example.org/7".into()),
            icon: None,
            actions: Vec::new(),
            data: None,
        }),
        forms: Forms::default(),
        locale: None,
        user: None,
        unsubscribe: Some("https://hub.example.org/u/abc".into()),
        preferences: Some("https://hub.example.org/p/abc".into()),
    };
    Work {
        tenant: "default".parse().expect("a tenant"),
        delivery: DeliveryId::at(AT),
        attempt: 1,
        operation: Operation::Deliver,
        address: to.parse().expect("an address"),
        provider_id: None,
        message: Message::Notification(Box::new(notification)),
        created_at: AT,
        expires_at: AT.after(std::time::Duration::from_secs(60)),
        keys: Vec::new(),
    }
}

/// One attempt, to `to`.
pub(crate) async fn attempt(config: &EmailConfig, to: &str) -> (DeliveryId, Report) {
    let work = work(to);
    (work.delivery, channel(config).attempt(&work).await)
}

/// Whether the sink has it, and what it saw.
pub(crate) fn arrived(delivery: DeliveryId) -> Value {
    let path = folder().join("messages").join(format!("{delivery}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// How many connections the sink saw for these deliveries.
pub(crate) fn connections(deliveries: &[DeliveryId]) -> usize {
    let seen: HashSet<String> = deliveries
        .iter()
        .map(|delivery| arrived(*delivery)["connection"].to_string())
        .collect();
    seen.len()
}

pub(crate) fn assert_accepted(report: &Report) {
    assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    assert_eq!(report.status, Some(250));
}

/// The reason of a retry that is the provider's fault.
pub(crate) fn provider_trouble(report: &Report) -> &str {
    match &report.outcome {
        Outcome::Retry {
            fault: Fault::Provider,
            reason,
            ..
        } => reason,
        _ => panic!("{report:?}"),
    }
}

/// Waits for a file below `folder` that contains `text`; Exim delivers after it has answered.
pub(crate) async fn file_with(folder: &Path, text: &str) -> Vec<u8> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            if String::from_utf8_lossy(&content).contains(text) {
                return content;
            }
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "nothing with {text} in {}",
            folder.display()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
