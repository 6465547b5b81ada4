use serde_json::json;

use super::*;

fn channel(name: &str) -> ChannelKind {
    name.parse().expect("a channel")
}

fn plan(json: serde_json::Value) -> Plan {
    serde_json::from_value(json).expect("a plan")
}

fn faults(json: serde_json::Value) -> Vec<String> {
    let known = |channel: &ChannelKind| ["email", "fcm", "sms"].contains(&channel.as_str());
    let faults = plan(json).check(known);
    faults.into_iter().map(|fault| fault.pointer).collect()
}

#[test]
fn a_list_of_channels_becomes_a_ladder() {
    let names = ["email", "fcm", "in_app", "sms", "webpush", "email"].map(channel);
    let (hold, push) = (Duration::from_secs(30), Duration::from_secs(300));
    let ladder = Plan::of_channels(&names, hold, push);
    assert_eq!(
        serde_json::to_value(&ladder).expect("JSON"),
        json!({"acknowledged_by": "each", "steps": [
            {"channels": ["in_app"], "deadline": 30},
            {"channels": ["fcm", "webpush"], "deadline": 300},
            {"channels": ["email", "sms"]},
        ]})
    );
    let alone = Plan::of_channels(&[ChannelKind::in_app()], hold, push);
    assert_eq!(alone.steps.len(), 1);
    assert_eq!(alone.steps[0].deadline, None, "the last step has no deadline");
    let pushed = Plan::of_channels(&[ChannelKind::in_app(), channel("apns")], hold, push);
    assert_eq!(pushed.steps[0].deadline, Some(30));
    assert_eq!(pushed.steps[1].deadline, None);
    assert!(ladder.check(|_| true).is_empty());
}

#[test]
fn a_plan_without_an_inbox_keeps_its_other_steps() {
    let ladder = plan(json!({"steps": [
        {"channels": ["in_app"], "deadline": 30},
        {"channels": ["in_app2", "email"], "deadline": 60},
        {"channels": ["sms"]},
    ]}));
    let without = ladder.without_in_app();
    assert_eq!(without.steps, ladder.steps[1..]);
    assert_eq!(
        Plan::of_address(channel("email")).steps,
        plan(json!({"steps": [{"channels": ["email"]}]})).steps
    );
}

#[test]
fn broken_plans_are_told_where() {
    assert!(
        faults(json!({"steps": [{"channels": ["in_app"], "deadline": 30, "when": ["unseen"]}]})).is_empty()
    );
    assert_eq!(faults(json!({"steps": []})), ["/steps"]);
    assert_eq!(
        faults(json!({"steps": [
            {"channels": [], "deadline": 0},
            {"channels": ["email", "pigeon"], "deadline": 2_592_001, "when": ["unseen", "inactive", "unseen"]},
            {"channels": ["fcm", "email"]},
        ]})),
        [
            "/steps/0/channels",
            "/steps/0/deadline",
            "/steps/1/channels/1",
            "/steps/1/deadline",
            "/steps/1/when/2",
            "/steps/2/channels/1",
        ]
    );
    let nine: Vec<_> = (0..9).map(|_| json!({"channels": ["in_app"]})).collect();
    assert_eq!(faults(json!({ "steps": nine }))[0], "/steps");
    for broken in [
        json!({"steps": [{"channels": ["in_app"], "deadline": -1}]}),
        json!({"steps": [{"channels": ["in_app"], "when": ["bored"]}]}),
        json!({"steps": [{"channels": ["in_app"], "until": 3}]}),
        json!({"steps": [{}]}),
        json!({"acknowledged_by": "all", "steps": []}),
    ] {
        assert!(
            serde_json::from_value::<Plan>(broken.clone()).is_err(),
            "{broken}"
        );
    }
}
