//! `carillon token`: a user's JWT.

use carillon_domain::{DeviceName, ExternalUserId, TopicPattern};
use carillon_runtime::config::Span;
use clap::Args;
use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{client::Client, exit::Failure, output, target::Target};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The user, as the tenant names them; they exist from then on
    #[arg(long, value_name = "USER")]
    user: ExternalUserId,

    /// How long it lives: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,

    /// The device that it is for
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,

    /// Topics that it may subscribe to, several times: room.*
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<TopicPattern>,

    /// Topics that it may publish to, several times
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<TopicPattern>,

    /// Print when it ends and its id as well, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut body = json!({"user": arguments.user, "ttl": arguments.ttl.duration().as_secs()});
    if let Some(device) = &arguments.device {
        body["device"] = json!(device);
    }
    if !arguments.subscribe.is_empty() || !arguments.publish.is_empty() {
        body["topics"] = json!({"subscribe": arguments.subscribe, "publish": arguments.publish});
    }
    let client = arguments.target.connect().await?;
    let minted: Result<Value, _> = client.call(Method::POST, "/v1/tokens", Some(&body), &[]).await;
    client.close().await;
    let minted = minted?;
    if arguments.json {
        return output::json(&minted);
    }
    match minted["token"].as_str() {
        Some(token) => output::line(token),
        None => Err(Failure::Failed("the answer holds no token".to_owned())),
    }
}

/// A token for `user` that subscribes to `topics`, for a command that acts as them.
pub(super) async fn mint(
    client: &Client,
    user: &ExternalUserId,
    topics: &[TopicPattern],
) -> Result<SecretString, Failure> {
    #[derive(Deserialize)]
    struct Minted {
        token: SecretString,
    }
    let mut body = json!({"user": user});
    if !topics.is_empty() {
        body["topics"] = json!({"subscribe": topics});
    }
    let minted: Minted = client.call(Method::POST, "/v1/tokens", Some(&body), &[]).await?;
    Ok(minted.token)
}
