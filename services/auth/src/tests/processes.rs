//! Several processes on one PostgreSQL.

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Scope,
    ports::{ApiKeys as _, AuthError, Authenticate as _},
};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::{World, config, default, request};
use crate::Auth;

/// Waits until `auth` refuses the credential.
async fn refused(auth: &Auth, credential: &str) {
    let wait = async {
        while auth.bearer(&default(), credential).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("refused within seconds");
}

#[tokio::test]
async fn what_one_process_revokes_the_others_learn() {
    let world = World::postgres().await;
    let beside = world.beside(config()).await;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(Arc::clone(&beside).run(stop.clone()));

    let (id, key) = world
        .auth
        .create_key(&default(), "k", &[Scope::TokensWrite])
        .await
        .expect("made");
    let by_id = world.mint(&default(), "ada").await;
    let by_user = world.mint(&default(), "bob").await;
    let spared = world.mint(&default(), "eve").await;
    for credential in [
        key.expose_secret(),
        by_id.token.expose_secret(),
        by_user.token.expose_secret(),
    ] {
        beside
            .bearer(&default(), credential)
            .await
            .expect("good everywhere");
    }
    assert!(beside.stands(Some(&default()), id).await.expect("asked"));
    assert!(
        !beside.stands(None, id).await.expect("asked"),
        "it is one tenant's"
    );
    world
        .auth
        .revoke_key(&crate::store::KeyOwner::Tenant(default()), id)
        .await
        .expect("revoked");
    assert!(!world.auth.stands(Some(&default()), id).await.expect("asked"));
    world
        .auth
        .revoke_token(&default(), &by_id.jti)
        .await
        .expect("revoked");
    world
        .auth
        .revoke_user(&default(), &"bob".parse().expect("a user"))
        .await
        .expect("revoked");
    for credential in [
        key.expose_secret(),
        by_id.token.expose_secret(),
        by_user.token.expose_secret(),
    ] {
        refused(&beside, credential).await;
    }
    beside
        .bearer(&default(), spared.token.expose_secret())
        .await
        .expect("good");
    stop.cancel();
    worker.await.expect("the worker ends");
}

#[tokio::test]
async fn processes_that_mint_first_at_once_share_one_key() {
    let world = World::postgres().await;
    let mut nodes = vec![Arc::clone(&world.auth)];
    for _ in 0..5 {
        nodes.push(world.beside(config()).await);
    }
    let mints: Vec<_> = nodes
        .iter()
        .map(|node| {
            let node = Arc::clone(node);
            tokio::spawn(async move { node.mint(&default(), &request("ada")).await.expect("minted") })
        })
        .collect();
    let mut minted = Vec::new();
    for mint in mints {
        minted.push(mint.await.expect("no panic"));
    }
    world.clock.advance(Duration::from_secs(1));
    let mut kids = Vec::new();
    for minted in minted {
        let token = minted.token.expose_secret();
        kids.push(jsonwebtoken::decode_header(token).expect("a header").kid);
        for node in &nodes {
            node.bearer(&default(), token).await.expect("good on every node");
        }
    }
    assert!(kids.windows(2).all(|pair| pair[0] == pair[1]), "{kids:?}");
}

#[tokio::test]
async fn a_key_made_elsewhere_is_found_when_a_token_names_it() {
    let world = World::postgres().await;
    let beside = world.beside(config()).await;
    // The other node has looked, and remembers that there is no key.
    assert!(matches!(
        beside.bearer(&default(), "x.y.z").await,
        Err(AuthError::Invalid)
    ));
    beside
        .signing
        .of(&default(), carillon_domain::Clock::now(&*world.clock))
        .await
        .expect("read");
    let token = world.token("ada").await;
    world.clock.advance(Duration::from_secs(1));
    beside.bearer(&default(), &token).await.expect("good");
}

#[tokio::test]
async fn a_ticket_works_once_on_all_nodes_together() {
    let world = World::postgres().await;
    let beside = world.beside(config()).await;
    let token = world.token("ada").await;
    let verified = world
        .auth
        .token(&default(), &token, carillon_domain::Clock::now(&*world.clock))
        .await;
    let session = verified.expect("good").session.clone();
    for _ in 0..10 {
        let ticket = world
            .auth
            .hand_out_ticket(&default(), &session)
            .await
            .expect("a ticket");
        let tenant = default();
        let (one, two) = tokio::join!(
            world.auth.ticket(&tenant, &ticket.text),
            beside.ticket(&tenant, &ticket.text)
        );
        assert!(one.is_ok() != two.is_ok());
    }
}
