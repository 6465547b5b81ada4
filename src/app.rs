//! The composition root: opens the stores, joins the rooms by their ports, and hands out routers and workers. Built
//! once; the roles choose what runs.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use carillon_auth::{Auth, AuthPorts, MasterKey};
use carillon_backends::{BackendUrls, Backends, StoreSettings};
use carillon_dispatcher::{Dispatcher, DispatcherPorts};
use carillon_domain::{Clock, SystemClock, ports::Bus};
use carillon_hub::{Hub, HubPorts};
use carillon_runtime::{health::Health, http::SecureCookies, lifecycle::Stop};
use carillon_sql::Database;
use carillon_user::{UserPorts, Users};
use utoipa_axum::router::OpenApiRouter;

use crate::{config::Config, entrance::Entrance, guests::DevGuests, methods::Methods, serve::Run};

/// The stores and the rooms above them, joined; nothing runs yet.
pub(crate) struct App {
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Who is who.
    pub(crate) users: Arc<Users>,
    /// Identity.
    pub(crate) auth: Arc<Auth>,
    /// Notifications, inboxes and topics.
    pub(crate) dispatcher: Arc<Dispatcher>,
    /// Between nodes.
    pub(crate) bus: Arc<dyn Bus>,
    databases: Vec<Database>,
    secure_cookies: SecureCookies,
}

impl App {
    /// Opens and migrates every store, and joins the rooms.
    ///
    /// # Errors
    /// Names the configuration key or the store that is at fault.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let backends = backends(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (queue, bus) = (backends.queue(), backends.bus());
        let master = Arc::new(match &config.data.master_key {
            Some(secret) => MasterKey::from_secret(secret.inner()).context("data.master_key")?,
            None => MasterKey::load_or_create(&config.data.path.join("master.key"))
                .context("cannot use the master key")?,
        });
        let (user_database, auth_database, dispatcher_database) = tokio::try_join!(
            backends.database("user"),
            backends.database("auth"),
            backends.database("dispatcher")
        )?;
        let databases = vec![
            user_database.clone(),
            auth_database.clone(),
            dispatcher_database.clone(),
        ];
        let channels = crate::channels::open(config, &clock)?;
        let users = Users::open(
            config.user.clone(),
            user_database,
            UserPorts {
                clock: clock.clone(),
                channels: channels.clone(),
                seal: master.clone(),
            },
        )
        .await
        .context("cannot open the user store")?;
        let auth = Auth::open(
            config.auth.clone(),
            auth_database,
            AuthPorts {
                directory: users.clone(),
                bus: bus.clone(),
                clock: clock.clone(),
            },
            master,
        )
        .await
        .context("cannot open the auth store")?;
        let dispatcher = Dispatcher::open(
            config.dispatcher.clone(),
            dispatcher_database,
            DispatcherPorts {
                directory: users.clone(),
                queue,
                bus: bus.clone(),
                clock: clock.clone(),
                channels,
                templates: Some(Arc::new(carillon_channels::template::Engine::new())),
                seal: Some(auth.seal()),
                api_keys: auth.clone(),
                keys: Some(Arc::new(carillon_channels::webhook::WebhookKeys)),
                bounces: Some(Arc::new(crate::bounces::DsnReader)),
                links: config.server.public_url(),
            },
        )
        .await
        .context("cannot open the dispatcher store")?;
        users.verifies(dispatcher.verifier());
        users.suppresses(dispatcher.suppressed());
        users.erases("dispatcher", dispatcher.erase());
        users.erases("auth", auth.clone());
        Ok(Self {
            clock,
            users,
            auth,
            dispatcher,
            bus,
            databases,
            secure_cookies: config.auth.cookie_secure,
        })
    }

    /// The node's hub, receiving from the bus.
    pub(crate) fn hub(&self, config: &Config) -> Arc<Hub> {
        let hub = Hub::new(
            config.hub.clone(),
            HubPorts {
                authenticate: self.auth.clone(),
                inbox: self.dispatcher.inbox(),
                topics: self.dispatcher.topics(),
                bus: self.bus.clone(),
                rpc: Arc::new(Methods(vec![self.dispatcher.rpc(), self.users.rpc()])),
                clock: self.clock.clone(),
            },
        );
        self.bus.incoming(hub.clone());
        hub
    }

    /// Every route of the API with its description.
    pub(crate) fn routes(&self, hub: &Arc<Hub>, stop: &Stop) -> OpenApiRouter {
        let entrance = Entrance::new(self.auth.clone(), self.secure_cookies, false);
        let mut routes = self
            .rooms()
            .merge(hub.routes().merge(self.health(stop).routes()).layer(entrance));
        crate::openapi::complete(routes.get_openapi_mut());
        routes
    }

    /// The routes that need no running server.
    pub(crate) fn rooms(&self) -> OpenApiRouter {
        OpenApiRouter::with_openapi(crate::openapi::document())
            .merge(self.dispatcher.routes())
            .merge(self.auth.routes())
            .merge(self.users.routes())
            .layer(Entrance::new(self.auth.clone(), self.secure_cookies, true))
    }

    /// Ready while the stores answer.
    pub(crate) fn health(&self, stop: &Stop) -> Health {
        let dispatcher = self.dispatcher.clone();
        let (auth, users) = (self.auth.clone(), self.users.clone());
        Health::new(stop.clone())
            .check("dispatcher_store", move || {
                let dispatcher = dispatcher.clone();
                async move { dispatcher.ping().await.map_err(|error| error.to_string()) }
            })
            .check("auth_store", move || {
                let auth = auth.clone();
                async move { auth.ping().await.map_err(|error| error.to_string()) }
            })
            .check("user_store", move || {
                let users = users.clone();
                async move { users.ping().await.map_err(|error| error.to_string()) }
            })
    }

    /// The quickstart page's credentials.
    ///
    /// # Errors
    /// When its key can be neither made nor kept.
    pub(crate) async fn guests(&self, data: &Path) -> Result<Arc<DevGuests>> {
        Ok(Arc::new(DevGuests::open(self.auth.clone(), data).await?))
    }

    /// Everything that runs beside requests.
    pub(crate) fn workers(&self, hub: &Arc<Hub>) -> Vec<(&'static str, Run)> {
        let (auth, users, hub) = (self.auth.clone(), self.users.clone(), hub.clone());
        let workers: Vec<(&'static str, Run)> = vec![
            ("auth", Box::new(move |stop| Box::pin(auth.clone().run(stop)))),
            ("erasure", Box::new(move |stop| Box::pin(users.clone().run(stop)))),
            ("hub", Box::new(move |stop| Box::pin(hub.clone().run(stop)))),
        ];
        workers
    }

    /// Closes the stores.
    pub(crate) async fn close(&self) {
        for database in &self.databases {
            database.close().await;
        }
    }
}

/// The backends that the configuration names; connects nothing yet.
///
/// # Errors
/// Names the key whose URL is none of ours.
pub(crate) fn backends(config: &Config) -> Result<Backends> {
    let urls = BackendUrls {
        store: config.store.url.inner().clone(),
        queue: config.queue.url.inner().clone(),
        bus: config.bus.url.inner().clone(),
    };
    let settings = StoreSettings {
        data: config.data.path.clone(),
        connections: config.store.connections,
    };
    Ok(Backends::new(urls, settings)?)
}
