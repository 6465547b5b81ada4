//! What a webhook costs: users with registered endpoints, signed by HMAC, each attempt recorded before its first byte and
//! its outcome after the answer.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    bare::{self, Speech},
    costs::Costs,
    deliveries,
    far_end::FarEnd,
    http::Client,
    process::Server,
    receiver::Receiver,
    report::Figure,
};

const DELIVERIES: usize = 10_000;
const HOSTS: usize = 16;
/// At the most: one takes some seconds.
const ROUNDS: usize = 3;

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let mut many = Costs::default();
    let mut one = Costs::default();
    let rounds = rounds.min(ROUNDS);
    for round in 1..=rounds {
        measure_over(program, HOSTS, &mut many)?;
        measure_over(program, 1, &mut one)?;
        eprintln!("  round {round} of {rounds}: {many}; {one}");
    }
    let bare = "bare keep-alive client";
    Ok(vec![
        many.delivering("CPU per webhook, 16 hosts, planned to delivered", bare),
        many.whole("the same with accepting (batches of 500) and planning", bare),
        one.delivering("CPU per webhook, one host, planned to delivered", bare),
    ])
}

/// Settings that let the server call the far end.
pub(crate) fn may_call(ports: &[u16]) -> Vec<(&'static str, String)> {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    vec![
        ("OUTBOUND__PORTS", ports.join(",")),
        ("OUTBOUND__ALLOW_NETWORKS", "127.0.0.1/32".to_owned()),
    ]
}

/// A user for each port, who has an endpoint there: that is his address.
pub(crate) fn users(server: &Server, ports: &[u16]) -> Result<()> {
    let mut client = Client::connect(server.port, &server.key)?;
    for (number, port) in ports.iter().enumerate() {
        client.post("/v1/webhooks/endpoints", &endpoint(*port, number))?;
    }
    Ok(())
}

/// An endpoint as the address of a user.
pub(crate) fn endpoint(port: u16, user: usize) -> String {
    format!(r#"{{"url":"http://127.0.0.1:{port}/hook","user":"user{user}"}}"#)
}

fn measure_over(program: &Path, hosts: usize, costs: &mut Costs) -> Result<()> {
    let mut far_end = FarEnd::listen(hosts, Receiver::default())?;
    let ports = far_end.ports()?;
    let spent = {
        let server = Server::carillon_with(program, &may_call(&ports))?;
        users(&server, &ports)?;
        deliveries::run(
            &server,
            &mut far_end,
            ("webhook", "delivered"),
            DELIVERIES,
            |number| {
                format!(
                    r#"{{"targets":[{{"user":"user{}"}}],"channels":["webhook"],"content":{{"title":"Build failed","body":"main is red since a minute ago"}}}}"#,
                    number % hosts
                )
            },
        )?
    };
    ensure!(far_end.service.unsigned() == 0, "a webhook without a signature");
    ensure!(far_end.service.requests() == DELIVERIES, "a webhook came twice");
    let sample = far_end.service.sample().to_vec();
    let connections = far_end.most_open();
    let floor = bare::measure(&mut far_end, Speech::Http, &[&sample], connections, DELIVERIES)?;
    costs.add(DELIVERIES, &spent, floor);
    Ok(())
}
