//! Who is who.

use std::{collections::HashSet, sync::Arc};

use carillon_domain::{ExternalUserId, ports::Directory as _};

use super::{World, name, on_both, tenant};

on_both! {
    async fn a_user_exists_from_the_first_mention(world: World) {
        let users = &world.users;
        assert_eq!(users.find(&tenant(), &name("ada")).await.expect("asked"), None);
        let ids = users.resolve(&tenant(), &[name("ada"), name("bob"), name("ada")]).await.expect("resolved");
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0], ids[1]);
        assert_eq!(users.find(&tenant(), &name("ada")).await.expect("asked"), Some(ids[0]));
        let again = users.resolve(&tenant(), &[name("bob"), name("eve")]).await.expect("resolved");
        assert_eq!(again[0], ids[1]);
        let fresh = world.beside().await.resolve(&tenant(), &[name("eve"), name("ada")]).await.expect("resolved");
        assert_eq!(fresh, [again[1], ids[0]]);
        let names = users.names(&tenant(), &[again[1], ids[0]]).await.expect("named");
        assert_eq!(names, [Some(name("eve")), Some(name("ada"))]);
        assert_eq!(users.resolve(&tenant(), &[]).await.expect("resolved"), []);
    }

    async fn names_are_private_to_their_tenant(world: World) {
        let acme = "acme".parse().expect("a tenant");
        let ours = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved");
        assert_eq!(world.users.find(&acme, &name("ada")).await.expect("asked"), None);
        let theirs = world.users.resolve(&acme, &[name("ada")]).await.expect("resolved");
        assert_ne!(ours, theirs);
        assert_eq!(world.users.names(&acme, &ours).await.expect("named"), [None]);
    }

    async fn every_spelling_is_a_user_of_its_own(world: World) {
        let odd: Vec<ExternalUserId> = [
            "Ada", "ada", "ADA", " ada", "ada ", "\u{e5}", "a\u{30a}", "'; DROP TABLE users; --", "\"", "\\", "%", "_",
            "\u{1f514}", "null", "0", "{\"a\":1}", "a/b", "\u{2028}", "x",
        ]
        .into_iter()
        .map(name)
        .chain([name(&"\u{1f514}".repeat(63)), name(&"x".repeat(255))])
        .collect();
        let ids = world.users.resolve(&tenant(), &odd).await.expect("resolved");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), odd.len());
        let beside = world.beside().await;
        assert_eq!(beside.resolve(&tenant(), &odd).await.expect("resolved"), ids);
        let names = beside.names(&tenant(), &ids).await.expect("named");
        assert_eq!(names, odd.into_iter().map(Some).collect::<Vec<_>>());
    }

    async fn mentions_at_once_make_one_user(world: World) {
        let mut nodes = vec![Arc::clone(&world.users)];
        for _ in 0..3 {
            nodes.push(world.beside().await);
        }
        // Overlapping batches, in opposite orders.
        let batch = |from: usize, reverse: bool| {
            let mut users: Vec<_> = (from..from + 200).map(|n| name(&format!("user-{n}"))).collect();
            if reverse {
                users.reverse();
            }
            users
        };
        let resolving = (0..12).map(|n| {
            let (node, users) = (Arc::clone(&nodes[n % nodes.len()]), batch(n % 3 * 50, n % 2 == 0));
            tokio::spawn(async move {
                let ids = node.resolve(&tenant(), &users).await.expect("resolved");
                users.into_iter().zip(ids).collect::<Vec<_>>()
            })
        });
        let mut pairs = HashSet::new();
        for one in resolving.collect::<Vec<_>>() {
            pairs.extend(one.await.expect("no panic"));
        }
        let names: HashSet<_> = pairs.iter().map(|(name, _)| name).collect();
        assert_eq!((pairs.len(), names.len()), (300, 300));
    }

    async fn a_thousand_new_users_are_one_batch(world: World) {
        let users: Vec<_> = (0..1_000).map(|n| name(&format!("user-{n}"))).collect();
        let ids = world.users.resolve(&tenant(), &users).await.expect("resolved");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1_000);
        let names = world.users.names(&tenant(), &ids).await.expect("named");
        assert_eq!(names.into_iter().flatten().collect::<Vec<_>>(), users);
    }

    async fn a_crowd_that_comes_at_once_is_looked_up_together(world: World) {
        let acme: carillon_domain::TenantId = "acme".parse().expect("a tenant");
        let coming = (0..500).map(|n| {
            let (users, tenant) = (Arc::clone(&world.users), if n % 5 == 0 { acme.clone() } else { tenant() });
            // Some come twice.
            tokio::spawn(async move {
                let user = name(&format!("user-{}", n / 2 * 2));
                (tenant.clone(), user.clone(), users.resolve(&tenant, &[user]).await.expect("resolved"))
            })
        });
        let mut ids = HashSet::new();
        for one in coming.collect::<Vec<_>>() {
            let (tenant, user, id) = one.await.expect("no panic");
            assert_eq!(world.users.find(&tenant, &user).await.expect("asked"), id.first().copied());
            ids.insert(id);
        }
        assert_eq!(ids.len(), 350, "one of each name in each tenant");
        let looks = world.users.ids.looks();
        assert!(looks < 50, "{looks} looks for 500 who came at once");
    }
}
