//! Calls the API: of a server far away by its URL, of one on this machine by its Unix socket, or, when none runs there,
//! of the same handlers in this process on the store itself. One path for all three.

use std::{path::Path, time::Duration};

use axum::Router;
use carillon_domain::{Caller, Principal, TenantId};
use carillon_runtime::{
    http::BodyLimit,
    lifecycle::{Stop, Supervisor},
};
use http::{Method, Request, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;
use url::Url;

use super::{
    exit::{Failure, Problem},
    made,
    target::Place,
};
use crate::{app::App, config::Config, lock::DataLock};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take. A stream's time is not counted.
const ANSWER: Duration = Duration::from_secs(30);

/// The stores of a data folder on which no server runs, and the handlers above them. What commits in groups runs beside.
struct Here {
    router: Router,
    app: App,
    stop: Stop,
    supervisor: Supervisor,
    _lock: DataLock,
}

impl Here {
    async fn open(config: &Config) -> Result<Self, Failure> {
        let failed = |error: anyhow::Error| Failure::at_start(&error);
        let lock = DataLock::take(&config.data.path).map_err(|error| failed(error.into()))?;
        let app = App::open(config).await.map_err(failed)?;
        let stop = Stop::new();
        let supervisor = Supervisor::new(stop.clone());
        for worker in app.dispatcher.commit_workers() {
            supervisor.start_critical(worker);
        }
        let (router, _) = app.rooms().split_for_parts();
        Ok(Self {
            router,
            app,
            stop,
            supervisor,
            _lock: lock,
        })
    }
}

/// How long the stores may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Somebody who answers.
pub(super) struct Client {
    reach: Reach,
    tenant: TenantId,
}

enum Reach {
    /// Over HTTP, to `base`, which ends without a slash.
    Http {
        http: reqwest::Client,
        base: String,
        key: Option<SecretString>,
    },
    /// In this process; the caller is the operator, as on the socket.
    Here(Box<Here>),
}

impl Client {
    /// A server by its URL.
    ///
    /// # Errors
    /// When the URL is none of HTTP.
    pub(super) fn remote(url: &Url, key: Option<SecretString>, tenant: TenantId) -> Result<Self, Failure> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Failure::Usage(format!(
                "--url: expected http:// or https://, not {url}"
            )));
        }
        Ok(Self {
            reach: Reach::Http {
                http: http_client(None)?,
                base: url.as_str().trim_end_matches('/').to_owned(),
                key,
            },
            tenant,
        })
    }

    /// The server of a data folder, or the folder's store when no server runs.
    ///
    /// # Errors
    /// When the configuration is at fault or the store cannot be opened.
    pub(super) async fn local(place: &Place, tenant: TenantId) -> Result<Self, Failure> {
        let config = place.load(Vec::new())?.config;
        let socket = config.socket();
        if is_answered(&socket).await {
            let reach = Reach::Http {
                http: http_client(Some(&socket))?,
                base: "http://carillon".to_owned(),
                key: None,
            };
            return Ok(Self { reach, tenant });
        }
        made::require(&config)?;
        let here = Box::pin(Here::open(&config)).await?;
        Ok(Self {
            reach: Reach::Here(Box::new(here)),
            tenant,
        })
    }

    /// Whether a server answers: only a server delivers.
    pub(super) const fn is_served(&self) -> bool {
        matches!(self.reach, Reach::Http { .. })
    }

    /// Sends `body` to `path` and reads the answer.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a problem.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Result<T, Failure> {
        let (status, bytes) = match &self.reach {
            Reach::Http { .. } => self.over_http(method, path, body, headers).await?,
            Reach::Here(here) => self.here(&here.router, method, path, body, headers).await?,
        };
        if !(200..300).contains(&status) {
            return Err(Failure::Refused(Box::new(Problem::read(status, &bytes))));
        }
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text)
            .map_err(|error| Failure::Failed(format!("the server's answer is not understood: {error}")))
    }

    /// Ends what [`Client::local`] began.
    pub(super) async fn close(self) {
        if let Reach::Here(here) = self.reach {
            here.stop.finish();
            // Nothing waits for signals any more; what was answered is committed.
            let _ = here.supervisor.run(CLOSE).await;
            here.app.close().await;
        }
    }

    /// Opens a stream with `credential`, from `last_event_id` on.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn stream(
        &self,
        query: &[(&str, &str)],
        credential: &SecretString,
        last_event_id: Option<&str>,
    ) -> Result<reqwest::Response, Failure> {
        let Reach::Http { http, .. } = &self.reach else {
            return Err(Failure::Unreachable(
                "no server runs: there is no stream to follow".to_owned(),
            ));
        };
        let mut request = http
            .get(self.url("/v1/stream"))
            .query(query)
            .header(header::ACCEPT, "text/event-stream")
            .bearer_auth(credential.expose_secret());
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.send().await.map_err(|error| unreachable(&error))
    }

    fn url(&self, path: &str) -> String {
        let base = match &self.reach {
            Reach::Http { base, .. } => base,
            Reach::Here(_) => "",
        };
        if self.tenant.as_str() == TenantId::DEFAULT {
            format!("{base}{path}")
        } else {
            format!("{base}/t/{}{path}", self.tenant)
        }
    }

    async fn over_http(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Result<(u16, Vec<u8>), Failure> {
        let Reach::Http { http, key, .. } = &self.reach else {
            return Err(Failure::Failed("not reached over HTTP".to_owned()));
        };
        let mut request = http.request(method, self.url(path)).timeout(ANSWER);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = key {
            request = request.bearer_auth(key.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(|error| unreachable(&error))?;
        Ok((status, bytes.into()))
    }

    async fn here(
        &self,
        router: &Router,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Result<(u16, Vec<u8>), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| failed(&error))?
            }
            None => Vec::new(),
        };
        let request = request
            .extension(self.tenant.clone())
            .extension(BodyLimit::default())
            .extension(Principal {
                tenant: self.tenant.clone(),
                caller: Caller::Operator,
            })
            .body(axum::body::Body::from(text))
            .map_err(|error| failed(&error))?;
        let answer = match router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 64 << 20)
            .await
            .map_err(|error| failed(&error))?;
        Ok((status, bytes.into()))
    }
}

pub(super) fn http_client(socket: Option<&Path>) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .user_agent(concat!("carillon/", env!("CARGO_PKG_VERSION")))
        // A key is for the server that was named, and no other.
        .redirect(reqwest::redirect::Policy::none());
    if let Some(socket) = socket {
        builder = builder.unix_socket(socket.to_owned());
    }
    builder.build().map_err(|error| Failure::Failed(causes(&error)))
}

/// Whether somebody listens: a file alone may be what a killed server left.
pub(super) async fn is_answered(socket: &Path) -> bool {
    let connect = tokio::net::UnixStream::connect(socket);
    matches!(tokio::time::timeout(CONNECT, connect).await, Ok(Ok(_)))
}

/// Why a request brought no answer.
pub(super) fn unreachable(error: &reqwest::Error) -> Failure {
    Failure::Unreachable(causes(error))
}

/// An error with what caused it: reqwest's own words end where it becomes interesting.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}
