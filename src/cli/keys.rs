//! `carillon keys`: API keys.

use carillon_domain::{KeyId, Scope};
use clap::{Args, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{exit::Failure, output, target::Target};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key and print it, alone; it is never shown again
    Create(Create),
    /// List the tenant's keys, without their secrets
    List(List),
    /// Revoke a key, at once
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it is for
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What it may do, several times; all but keys:write and the channels unless given. channel:KIND is for a worker
    /// that brings this channel
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<Scope>,

    /// A worker's key that serves every tenant: only with scopes channel:KIND, and only on the server's own machine
    #[arg(long, requires = "scope")]
    all_tenants: bool,

    /// Print what is known of the key as well, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print JSON, one key a line
    #[arg(long)]
    json: bool,

    /// The keys of workers that serve every tenant instead
    #[arg(long)]
    all_tenants: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The key's id, key_...
    id: KeyId,

    /// It is the key of a worker that serves every tenant
    #[arg(long)]
    all_tenants: bool,

    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create(arguments).await,
        Command::List(arguments) => list(arguments).await,
        Command::Revoke(arguments) => revoke(arguments).await,
    }
}

/// Where the keys of one tenant are, or those for all.
const fn path(all_tenants: bool) -> &'static str {
    if all_tenants {
        "/v1/worker-keys"
    } else {
        "/v1/keys"
    }
}

async fn create(arguments: Create) -> Result<(), Failure> {
    let mut body = json!({"name": arguments.name});
    if !arguments.scope.is_empty() {
        body["scopes"] = json!(arguments.scope);
    }
    let client = arguments.target.connect().await?;
    let made: Result<Value, _> = client
        .call(Method::POST, path(arguments.all_tenants), Some(&body), &[])
        .await;
    client.close().await;
    let made = made?;
    if arguments.json {
        return output::json(&made);
    }
    match made["key"].as_str() {
        Some(key) => output::line(key),
        None => Err(Failure::Failed("the answer holds no key".to_owned())),
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Key>,
    next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Key {
    id: String,
    name: String,
    scopes: Vec<String>,
    created_at: String,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

async fn list(arguments: List) -> Result<(), Failure> {
    let client = arguments.target.connect().await?;
    let mut keys = Vec::new();
    let base = path(arguments.all_tenants);
    let mut path = format!("{base}?limit=200");
    loop {
        let page: Page = client.call(Method::GET, &path, None, &[]).await?;
        keys.extend(page.data);
        match page.next {
            Some(cursor) => path = format!("{base}?limit=200&cursor={cursor}"),
            None => break,
        }
    }
    client.close().await;
    if arguments.json {
        return keys.iter().try_for_each(output::json);
    }
    if keys.is_empty() {
        output::note("no keys yet: carillon keys create --name NAME");
        return Ok(());
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let state = if key.revoked_at.is_some() {
                "revoked"
            } else {
                "works"
            };
            [
                key.id,
                output::plain(&key.name),
                state.to_owned(),
                key.created_at.chars().take(10).collect(),
                key.last_used_at
                    .map_or_else(|| "never".to_owned(), |at| at.chars().take(16).collect()),
                key.scopes.join(" "),
            ]
        })
        .collect();
    output::table(["ID", "NAME", "STATE", "CREATED", "LAST USED", "SCOPES"], &rows)
}

async fn revoke(arguments: Revoke) -> Result<(), Failure> {
    let client = arguments.target.connect().await?;
    let path = format!("{}/{}", path(arguments.all_tenants), arguments.id);
    let revoked = client.call::<Value>(Method::DELETE, &path, None, &[]).await;
    client.close().await;
    revoked?;
    output::note(format_args!("{} is revoked", arguments.id));
    Ok(())
}
