//! `carillon serve`: starts the parts, serves, and ends in two stages.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use async_trait::async_trait;
use carillon_runtime::{
    edge::{Access, Edge, EdgeConfig, ListenAddress},
    lifecycle::{Stop, Supervisor, Worker},
    telemetry::Metrics,
};
use futures_util::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;

use crate::{app::App, config::Config, lock::DataLock, quickstart, reference, roles::Role};

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServeOptions {
    /// Which parts run; empty means all.
    pub(crate) roles: Vec<Role>,
    /// Serve the quickstart page, which can send: loopback only.
    pub(crate) dev: bool,
}

/// What is served, once it is.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// The base of every public URL, such as `http://127.0.0.1:8080`.
    pub(crate) url: String,
    /// With `--dev`: the key that the quickstart page uses.
    pub(crate) key: Option<String>,
}

/// Serves what passed [`check`] until told to stop; `ready` is called once everything listens.
///
/// # Errors
/// When it cannot start.
pub(crate) async fn serve(
    mut config: Config,
    options: ServeOptions,
    ready: impl FnOnce(&Serving),
) -> Result<ExitCode> {
    let _lock = DataLock::take(&config.data.path)?;
    let metrics = Metrics::install();
    let stop = Stop::new();
    // Bound before the stores open: an address that is taken ends the program before anything was touched.
    let public = Edge::bind(&config.server, Access::Public)?;
    let internal = Edge::bind(
        &listening(ListenAddress::Unix(config.socket()), &config),
        Access::Operator,
    )?;
    let collector = match config.internal.listen {
        Some(listen) => Some(Edge::bind(
            &listening(ListenAddress::Tcp(listen), &config),
            Access::Public,
        )?),
        None => None,
    };
    let receiver = if options.dev {
        quickstart::allow_receiver(&mut config, &public)
    } else {
        None
    };
    let app = Arc::new(App::open(&config).await?);
    let hub = app.hub(&config);
    let metrics = metrics
        .with_connections("public", public.connections())
        .with_connections("internal", internal.connections());

    let (routes, document) = app.routes(&hub, &stop).split_for_parts();
    let routes = routes.merge(reference::router(&document)?);
    let mut serving = Serving {
        url: base_url(&public),
        key: None,
    };
    let public_routes = if options.dev {
        let guests = app.clone().guests(&config.data.path).await?;
        serving.key = Some(guests.key_text().to_owned());
        routes
            .clone()
            .merge(quickstart::router(guests, receiver, app.clock.clone()))
    } else {
        routes.clone()
    };
    let (health, _) = app.health(&stop).routes().split_for_parts();

    let info = crate::server_info::ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        url: serving.url.clone(),
        dev: options.dev,
        started_at: app.clock.now(),
    };
    let supervisor = Supervisor::new(stop.clone());
    // Requests in progress still need the workers: these end last.
    let late = Stop::new();
    for (name, run) in app.workers(&hub) {
        supervisor.start_critical(Arc::new(Part {
            name,
            run,
            late: late.clone(),
        }));
    }
    for worker in app.dispatcher.commit_workers() {
        supervisor.start_critical(Arc::new(Late {
            worker,
            late: late.clone(),
        }));
    }
    for worker in app.dispatcher.upkeep_workers() {
        supervisor.start_critical(worker);
    }
    let upkeep = metrics.clone();
    let upkeep_stop = stop.clone();
    supervisor.spawn_critical("metrics", async move { upkeep.keep(upkeep_stop).await });
    let mut edges: Vec<BoxFuture<'static, ()>> = vec![
        Box::pin(public.serve(public_routes, stop.clone())),
        Box::pin(
            internal.serve(
                routes
                    .merge(metrics.routes())
                    .merge(crate::server_info::router(info)),
                stop.clone(),
            ),
        ),
    ];
    if let Some(collector) = collector {
        edges.push(Box::pin(
            collector.serve(metrics.routes().merge(health), stop.clone()),
        ));
    }
    let grace = config.shutdown.grace.duration();
    let drain = config.shutdown.drain.duration();
    let drained = stop.clone();
    edges.push(Box::pin(async move {
        drained.finishing().await;
        tracing::info!(connections = hub.connections(), "draining");
        hub.drain(drain).await;
    }));
    supervisor.spawn_critical("edges", async move {
        join_all(edges).await;
        late.finish();
    });
    ready(&serving);
    let ending = supervisor.run(grace).await?;
    // Whoever still holds a connection after the hard stop has half a second; then the process ends anyway.
    if tokio::time::timeout(Duration::from_millis(500), app.close())
        .await
        .is_err()
    {
        tracing::warn!("the stores did not close in time");
    }
    Ok(ending.code())
}

/// What only shows when configuration and command line meet.
///
/// # Errors
/// Names the key that does not go with the command line, or with another key.
pub(crate) fn check(config: &Config, options: &ServeOptions) -> Result<()> {
    if options.dev
        && let Some(address) = config.server.listen.iter().find(|address| !address.is_local())
    {
        bail!(
            "server.listen: --dev serves a page that can send, so it refuses {address}, which is not loopback"
        );
    }
    if !options.roles.is_empty() && !Role::ALL.iter().all(|role| options.roles.contains(role)) {
        bail!("bus.url: with embedded: one process runs every role; fewer need a bus between processes");
    }
    crate::app::backends(config)?;
    Ok(())
}

/// The configured edge on another address: plain, since it does not leave the host.
fn listening(address: ListenAddress, config: &Config) -> EdgeConfig {
    EdgeConfig {
        listen: vec![address],
        limits: config.server.limits.clone(),
        ..EdgeConfig::default()
    }
}

fn base_url(edge: &Edge) -> String {
    let scheme = if edge.is_tls() { "https" } else { "http" };
    match edge
        .addresses()
        .into_iter()
        .find(|address| matches!(address, ListenAddress::Tcp(_)))
    {
        Some(address) => format!("{scheme}://{address}"),
        None => format!("{scheme}://localhost"),
    }
}

/// Begins a worker; called again when it has to begin anew.
pub(crate) type Run = Box<dyn Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

struct Part {
    name: &'static str,
    run: Run,
    late: Stop,
}

#[async_trait]
impl Worker for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, _: Stop) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        (self.run)(self.late.soft().clone()).await;
        Ok(())
    }
}

/// A worker that ends after all requests have.
struct Late {
    worker: Arc<dyn Worker>,
    late: Stop,
}

#[async_trait]
impl Worker for Late {
    fn name(&self) -> &'static str {
        self.worker.name()
    }

    async fn run(&self, _: Stop) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.worker.run(self.late.clone()).await
    }
}
