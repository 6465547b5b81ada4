//! A person is forgotten, whatever fails meanwhile.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use carillon_domain::{Scope, ports::Directory as _};
use http::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Room, World, name, on_both, tenant};

on_both! {
    async fn the_name_is_free_at_once_and_all_rooms_forget_twice(world: World) {
        let rooms = [Arc::new(Room::default()), Arc::new(Room::default())];
        world.users.erases("one", rooms[0].clone());
        world.users.erases("two", rooms[1].clone());
        let old = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0];
        assert!(world.users.erase(&tenant(), &name("ada")).await.expect("begun"));
        let known = world.users.names(&tenant(), &[old]).await.expect("named");
        assert_eq!(known, [Some(name("ada"))], "rooms that must know whom they forget can ask");
        let new = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0];
        assert_ne!(new, old);

        assert_eq!(world.users.carry_on().await.expect("carried on"), 1);
        assert_eq!(world.users.carry_on().await.expect("carried on"), 0, "the second pass waits");
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(world.users.carry_on().await.expect("carried on"), 1);
        for room in &rooms {
            assert_eq!(*room.asked.lock().unwrap(), [old, old]);
        }
        world.clock.advance(Duration::from_secs(100_000));
        assert_eq!(world.users.carry_on().await.expect("carried on"), 0);
        assert_eq!(world.users.names(&tenant(), &[old, new]).await.expect("named"), [None, Some(name("ada"))]);
    }

    async fn a_room_out_of_order_is_asked_again_until_it_forgot(world: World) {
        let (good, bad) = (Arc::new(Room::default()), Arc::new(Room::default()));
        bad.failures.store(3, Ordering::SeqCst);
        world.users.erases("bad", bad.clone());
        world.users.erases("good", good.clone());
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0];
        world.users.erase(&tenant(), &name("ada")).await.expect("begun");
        let mut waited = Vec::new();
        for _ in 0..3 {
            assert_eq!(world.users.carry_on().await.expect("carried on"), 1);
            let mut seconds = 0;
            while world.users.store.take_erasures(carillon_domain::Clock::now(&*world.clock), Duration::ZERO)
                .await.expect("looked").is_empty()
            {
                world.clock.advance(Duration::from_secs(1));
                seconds += 1;
            }
            waited.push(seconds);
        }
        assert!(waited.windows(2).all(|pair| pair[0] < pair[1]), "later and later: {waited:?}");
        assert_eq!(*bad.asked.lock().unwrap(), []);
        assert!(!good.asked.lock().unwrap().is_empty(), "the others do not wait for it");
        world.users.carry_on().await.expect("carried on");
        assert_eq!(*bad.asked.lock().unwrap(), [id]);
    }

    async fn an_erasure_outlives_the_process_that_began_it(world: World) {
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0];
        world.users.erase(&tenant(), &name("ada")).await.expect("begun");
        // A process took it up and died.
        let clock = &*world.clock;
        let taken =
            world.users.store.take_erasures(carillon_domain::Clock::now(clock), Duration::from_secs(120)).await;
        assert_eq!(taken.expect("taken").len(), 1);
        let (beside, room) = (world.beside().await, Arc::new(Room::default()));
        beside.erases("room", room.clone());
        assert_eq!(beside.carry_on().await.expect("carried on"), 0, "leased");
        world.clock.advance(Duration::from_secs(120));
        assert_eq!(beside.carry_on().await.expect("carried on"), 1);
        assert_eq!(*room.asked.lock().unwrap(), [id]);
    }

    async fn over_http_a_person_is_shown_erased_and_gone(world: World) {
        let show = async |user: &str| world.call(Scope::NotificationsRead, Method::GET, &format!("/v1/users/{user}")).await;
        let erase = async |user: &str| world.call(Scope::UsersWrite, Method::DELETE, &format!("/v1/users/{user}")).await;
        assert_eq!(show("ada").await.0, 404);
        assert_eq!(erase("ada").await.0, 404);
        // Any string of the tenant's, percent-encoded.
        let odd = name("a/b c?\u{e9}%");
        let id = world.users.resolve(&tenant(), std::slice::from_ref(&odd)).await.expect("resolved")[0];
        let path = "a%2Fb%20c%3F%C3%A9%25";
        let (status, shown) = show(path).await;
        assert_eq!((status.as_u16(), &shown["user"], &shown["state"]), (200, &json!(odd), &json!("active")));
        assert_eq!(shown["id"], json!(id));
        for _ in 0..2 {
            let (status, began) = erase(path).await;
            assert_eq!((status.as_u16(), began), (202, json!({"user": odd, "state": "erasing"})));
        }
        assert_eq!(show(path).await.1["state"], "erasing");
        world.users.carry_on().await.expect("carried on");
        world.clock.advance(Duration::from_secs(10));
        world.users.carry_on().await.expect("carried on");
        assert_eq!(show(path).await.0, 404);
        for (scope, method) in
            [(Scope::NotificationsRead, Method::DELETE), (Scope::TokensWrite, Method::GET), (Scope::KeysWrite, Method::DELETE)]
        {
            assert_eq!(world.call(scope, method, "/v1/users/ada").await.0, 403);
        }
        for bad in ["%00", "%ff", &"x".repeat(256)] {
            assert!(show(bad).await.0.is_client_error(), "{bad}");
        }
    }

    async fn the_worker_takes_up_what_was_begun_at_once(world: World) {
        let room = Arc::new(Room::default());
        world.users.erases("room", room.clone());
        let stop = CancellationToken::new();
        let worker = tokio::spawn(Arc::clone(&world.users).run(stop.clone()));
        world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved");
        world.users.erase(&tenant(), &name("ada")).await.expect("begun");
        let asked = async {
            while room.asked.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asked).await.expect("taken up");
        stop.cancel();
        worker.await.expect("the worker ends");
    }

    async fn two_erasures_of_one_name_are_two_people(world: World) {
        let room = Arc::new(Room::default());
        world.users.erases("room", room.clone());
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.push(world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0]);
            assert!(world.users.erase(&tenant(), &name("ada")).await.expect("begun"));
        }
        world.users.carry_on().await.expect("carried on");
        let mut asked = room.asked.lock().unwrap().clone();
        asked.sort_unstable();
        ids.sort_unstable();
        assert_eq!(asked, ids);
    }
}
