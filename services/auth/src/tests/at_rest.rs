//! No secret stands in the database as it is.

use carillon_domain::{
    Clock as _, Scope,
    ports::{Authenticate as _, Erase as _},
};
use carillon_sql::{Database, Sqlite, SqliteOptions};
use carillon_testkit::TestDatabase;
use secrecy::ExposeSecret as _;

use super::{MASTER, PREVIOUS, SECRET, World, config, default, request, user};

/// Makes one of everything that is secret or personal, and answers it all.
async fn fill(world: &World) -> Vec<(&'static str, Vec<u8>)> {
    let key = world.key(&default(), &[Scope::TokensWrite]).await;
    world.bearer(&key).await.expect("good");
    let minted = world
        .auth
        .mint(&default(), &request("canary-user"))
        .await
        .expect("minted");
    let token = minted.token.expose_secret().to_owned();
    let now = world.clock.now();
    let session = world
        .auth
        .token(&default(), &token, now)
        .await
        .expect("good")
        .session
        .clone();
    let ticket = world
        .auth
        .hand_out_ticket(&default(), &session)
        .await
        .expect("a ticket")
        .text;
    let (principal, cookie) = world.auth.ticket(&default(), &ticket).await.expect("good");
    let unused = world
        .auth
        .hand_out_ticket(&default(), &session)
        .await
        .expect("a ticket")
        .text;
    world.auth.stream_cookie(&default(), &cookie).await.expect("good");
    world
        .auth
        .keys
        .write_uses(&*world.auth.store)
        .await
        .expect("written");
    let signing = world.auth.signing.signer(&default(), now).await.expect("a key");
    let seed = signing.seed();
    let secret_half = key[4 + 32..].to_owned();
    let raw = |hex_text: &str| hex::decode(hex_text).expect("hex");
    let secrets = vec![
        ("an API key", key.clone().into_bytes()),
        ("an API key's secret half", secret_half.clone().into_bytes()),
        ("an API key's random bytes", raw(&secret_half)),
        ("a token", token.clone().into_bytes()),
        (
            "a token's signature",
            token.rsplit('.').next().expect("a part").as_bytes().to_vec(),
        ),
        ("a ticket", unused.clone().into_bytes()),
        ("a ticket's random bytes", raw(&unused)),
        ("a cookie", cookie.clone().into_bytes()),
        ("a cookie's random bytes", raw(&cookie)),
        ("a signing key's seed", seed),
        ("the master key", raw(MASTER)),
        ("the master key in digits", MASTER.as_bytes().to_vec()),
        ("the shared secret", SECRET.as_bytes().to_vec()),
        ("the previous shared secret", PREVIOUS.as_bytes().to_vec()),
    ];
    assert_eq!(user(&principal).external.as_str(), "canary-user");
    secrets
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn secrets_do_not_stand_in_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteOptions {
        path: folder.path().join("auth.sqlite"),
        readers: 2,
    };
    let sqlite = Sqlite::open(&options).await.expect("opens");
    let database = TestDatabase::from(Database::Sqlite(sqlite));
    let world = World::on(database, config()).await;
    let secrets = fill(&world).await;
    let files = || {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder.path()).expect("a folder") {
            all.extend(std::fs::read(entry.expect("an entry").path()).expect("readable"));
        }
        all
    };
    let written = files();
    assert!(
        contains(&written, b"canary-user"),
        "the control: sessions name their user"
    );
    for (what, secret) in &secrets {
        assert!(!contains(&written, secret), "{what} stands in the database");
    }
}

#[tokio::test]
async fn secrets_do_not_stand_in_the_tables() {
    let world = World::postgres().await;
    let secrets = fill(&world).await;
    let dump = dump(&world).await;
    assert!(
        dump.contains("canary-user"),
        "the control: sessions name their user"
    );
    for (what, secret) in &secrets {
        let digits = hex::encode(secret);
        assert!(!dump.contains(&digits), "{what} stands in the database");
        if let Ok(text) = std::str::from_utf8(secret) {
            assert!(!dump.contains(text), "{what} stands in the database");
        }
    }
    // And nothing names a person who was erased.
    let name = "canary-user".parse().expect("a user");
    let id = carillon_domain::ports::Directory::find(&*world.directory, &default(), &name).await;
    world
        .auth
        .erase(&default(), id.expect("asked").expect("known"))
        .await
        .expect("erased");
    assert!(!self::dump(&world).await.contains("canary-user"));
}

/// Every row of every table, as text; bytes in hexadecimal digits.
async fn dump(world: &World) -> String {
    let Database::Postgres(postgres) = &world.database.database else {
        panic!("PostgreSQL")
    };
    let mut tx = postgres
        .begin_system("a test reads everything")
        .await
        .expect("begins");
    let mut dump = String::new();
    for statement in [
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM tenants t",
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM api_keys t",
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM signing_keys t",
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM tickets t",
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM stream_cookies t",
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM revocations t",
        "SELECT COALESCE(string_agg(t::text, ' '), '') FROM erasures t",
    ] {
        let (rows,): (String,) = sqlx::query_as(statement).fetch_one(&mut *tx).await.expect("read");
        dump.push_str(&rows);
    }
    dump
}
