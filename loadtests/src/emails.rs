//! What an email costs, over a loopback relay that pipelines: without a signature of the domain, and with one of either
//! kind.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bare::{self, Speech},
    costs::Costs,
    deliveries,
    far_end::FarEnd,
    process::Server,
    report::Figure,
    sink::Sink,
};

const DELIVERIES: usize = 5_000;
/// At the most: one takes some seconds.
const ROUNDS: usize = 3;

/// What signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dkim {
    None,
    Rsa,
    Ed25519,
}

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let kinds = [Dkim::None, Dkim::Rsa, Dkim::Ed25519];
    let mut costs = kinds.map(|_| Costs::default());
    let rounds = rounds.min(ROUNDS);
    for round in 1..=rounds {
        for (kind, costs) in kinds.into_iter().zip(&mut costs) {
            measure_one(program, kind, costs)?;
        }
        let [none, rsa, ed25519] = &costs;
        eprintln!("  round {round} of {rounds}: {none}; RSA: {rsa}; Ed25519: {ed25519}");
    }
    let [none, rsa, ed25519] = &costs;
    let bare = "bare SMTP client";
    Ok(vec![
        none.delivering(
            "CPU per email, without DKIM, planned to accepted by the relay",
            bare,
        ),
        none.whole("the same with accepting (batches of 500) and planning", bare),
        rsa.delivering("CPU per email, DKIM with RSA-2048", bare),
        ed25519.delivering("CPU per email, DKIM with Ed25519", bare),
    ])
}

fn measure_one(program: &Path, kind: Dkim, costs: &mut Costs) -> Result<()> {
    let mut far_end = FarEnd::listen(1, Sink::default())?;
    let folder = tempfile::tempdir()?;
    let mut settings = vec![
        ("CHANNELS__EMAIL__HOST", "127.0.0.1".to_owned()),
        ("CHANNELS__EMAIL__PORT", far_end.ports()?[0].to_string()),
        ("CHANNELS__EMAIL__SECURITY", "none".to_owned()),
        ("CHANNELS__EMAIL__FROM", "hub@example.org".to_owned()),
    ];
    if kind != Dkim::None {
        let key = folder.path().join("dkim.pem");
        generate(kind, &key)?;
        settings.extend([
            ("CHANNELS__EMAIL__DKIM__SELECTOR", "s1".to_owned()),
            ("CHANNELS__EMAIL__DKIM__DOMAIN", "example.org".to_owned()),
            ("CHANNELS__EMAIL__DKIM__KEY_FILE", key.display().to_string()),
        ]);
    }
    let spent = {
        let server = Server::carillon_with(program, &settings)?;
        deliveries::run(
            &server,
            &mut far_end,
            ("email", "accepted"),
            DELIVERIES,
            |number| {
                format!(
                    r#"{{"targets":[{{"address":{{"channel":"email","to":"user{number}@example.net"}}}}],"channels":["email"],"content":{{"title":"Build failed","body":"main is red since a minute ago"}}}}"#,
                )
            },
        )?
    };
    let signed = if kind == Dkim::None { 0 } else { DELIVERIES };
    ensure!(
        far_end.service.signed() == signed,
        "{} of {signed} messages were signed",
        far_end.service.signed()
    );
    let commands = far_end.service.commands().to_vec();
    let sample = far_end.service.sample().to_vec();
    let connections = far_end.most_open();
    let steps: [&[u8]; 2] = [&commands, &sample];
    let floor = bare::measure(&mut far_end, Speech::Smtp, &steps, connections, DELIVERIES)?;
    costs.add(DELIVERIES, &spent, floor);
    Ok(())
}

/// A key as docs/channels.md has it made.
fn generate(kind: Dkim, path: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.arg("genpkey");
    match kind {
        Dkim::Ed25519 => command.args(["-algorithm", "ED25519"]),
        _ => command.args(["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    };
    let output = command.output().context("openssl genpkey")?;
    ensure!(
        output.status.success(),
        "openssl genpkey: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(fs::write(path, output.stdout)?)
}
