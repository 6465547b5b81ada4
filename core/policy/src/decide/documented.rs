//! The diagram of the deciders in the documentation is their order.

use super::Decider;

/// What leads to what without a label, link by link, as `a --> b --> c` lines of the diagram draw it.
fn links(diagram: &str) -> Vec<(&str, &str)> {
    diagram
        .lines()
        .filter(|line| !line.contains("-- "))
        .flat_map(|line| {
            let names: Vec<&str> = line
                .split("-->")
                .map(|node| node.trim().split('[').next().unwrap_or_default())
                .collect();
            names
                .windows(2)
                .map(|pair| (pair[0], pair[1]))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_diagram_of_the_deciders_shows_their_order() {
    let page = include_str!("../../../../docs/dispatcher.md");
    let (_, diagram) = page.split_once("flowchart LR\n").expect("the diagram");
    let (diagram, _) = diagram.split_once("```").expect("its end");
    let mut expected: Vec<&str> = Decider::ORDER.iter().map(|decider| decider.as_str()).collect();
    expected.push("send");
    let expected: Vec<_> = expected.windows(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(links(diagram), expected);
}

#[test]
fn critical_ones_leave_the_diagram_where_the_deciders_say() {
    let page = include_str!("../../../../docs/dispatcher.md");
    let (from, _) = page
        .split_once(" -- critical --> send")
        .expect("the way of critical ones");
    let from = from.lines().next_back().expect("a line").trim();
    let last = Decider::ORDER
        .iter()
        .rfind(|decider| decider.holds_for_critical())
        .expect("some bind them");
    assert_eq!(from, last.as_str());
}
