//! Rounds and writes in every order.

use std::time::Duration;

use serde_json::json;

use super::*;

fn row(pk: u128, from_number: &str) -> StageRow {
    let fields = json!({
        "pk": Uuid::from_u128(pk), "name": format!("s{pk}"), "from_number": from_number, "auth": "t0ken",
    });
    serde_json::from_str(&fields.to_string()).unwrap()
}

fn id(pk: u128) -> Uuid {
    Uuid::from_u128(pk)
}

/// A round that began so many seconds after the start of a test and saw these stages, all managed.
struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }

    fn round(&self, started: u64, rows: Vec<StageRow>) -> Round {
        Round {
            started: self.at(started),
            names: rows.iter().map(|row| (row.name.clone(), row.pk)).collect(),
            seen: rows.iter().map(|row| row.pk).collect(),
            rows,
        }
    }
}

fn clock() -> Clock {
    Clock(Instant::now())
}

fn numbers(range: std::ops::RangeInclusive<u128>) -> Vec<StageRow> {
    range.map(|pk| row(pk, "+1")).collect()
}

fn sorted_ids(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort();
    ids
}

#[test]
fn what_appears_or_differs_has_changed_and_nothing_else() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    assert_eq!(
        sorted_ids(snapshot.complete(clock.round(0, numbers(1..=2))).changed),
        [id(1), id(2)]
    );
    assert_eq!(snapshot.complete(clock.round(60, numbers(1..=2))), Changes::default());
    let changes = snapshot.complete(clock.round(120, vec![row(1, "+1"), row(2, "+2"), row(3, "+1")]));
    assert_eq!(sorted_ids(changes.changed), [id(2), id(3)]);
    assert_eq!(snapshot.row(id(2)).unwrap().from_number, "+2");
    assert_eq!((snapshot.count(), snapshot.started()), (3, Some(clock.at(120))));
}

#[test]
fn every_field_of_a_row_counts() {
    let base = json!({"pk": id(1), "name": "a", "auth": "x", "auth_password": "y", "flow_set": [{"pk": id(5)}, {"pk": id(6)}]});
    let read = |fields: &serde_json::Value| serde_json::from_str::<StageRow>(&fields.to_string()).unwrap();
    for (field, value) in [
        ("name", json!("b")),
        ("component", json!("c")),
        ("verbose_name", json!("v")),
        ("verbose_name_plural", json!("v")),
        ("meta_model_name", json!("m")),
        ("friendly_name", json!("f")),
        ("configure_flow", json!(id(7))),
        ("provider", json!("generic")),
        ("from_number", json!("+2")),
        ("account_sid", json!("AC")),
        ("auth", json!("z")),
        ("auth_password", json!("z")),
        ("auth_type", json!("bearer")),
        ("verify_only", json!(true)),
        ("mapping", json!(id(8))),
        ("flow_set", json!([{"pk": id(5)}])),
    ] {
        let mut other = base.clone();
        other[field] = value;
        assert!(!same_row(&read(&base), &read(&other)), "{field}");
    }
}

#[test]
fn what_tells_nothing_is_no_change() {
    let read = |fields: serde_json::Value| serde_json::from_str::<StageRow>(&fields.to_string()).unwrap();
    let flows = |one: u128, other: u128, background: &str| {
        json!({"pk": id(1), "name": "a", "auth": "x",
            "flow_set": [{"pk": id(one), "background": background}, {"pk": id(other), "background": background}]})
    };
    let base = read(flows(5, 6, "/a.png?sig=1"));
    assert!(
        same_row(&base, &read(flows(6, 5, "/a.png?sig=2"))),
        "order and signature"
    );
    let mut silent = flows(5, 6, "/a.png");
    silent.as_object_mut().unwrap().remove("auth");
    assert!(
        same_row(&base, &read(silent)),
        "a server that no longer tells credentials"
    );
}

#[test]
fn a_round_that_began_before_our_write_ended_does_not_undo_it() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, numbers(1..=1)));
    snapshot.wrote(id(1), Some(row(1, "+9")), clock.at(61));
    assert_eq!(
        snapshot.complete(clock.round(60, numbers(1..=1))),
        Changes::default(),
        "the old row is not news"
    );
    assert_eq!(snapshot.row(id(1)).unwrap().from_number, "+9");
    // What the next round says counts again.
    let changes = snapshot.complete(clock.round(120, numbers(1..=1)));
    assert_eq!(changes.changed, [id(1)]);
    assert_eq!(snapshot.row(id(1)).unwrap().from_number, "+1");
}

#[test]
fn our_own_write_is_no_change() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, vec![]));
    snapshot.wrote(id(1), Some(row(1, "+1")), clock.at(1));
    assert_eq!(snapshot.pk_of_name("s1"), Lookup::Present(id(1)));
    // A round that was under way does not see it, and that is no absence.
    assert_eq!(snapshot.complete(clock.round(1, vec![])), Changes::default());
    assert!(snapshot.row(id(1)).is_some());
    assert_eq!(snapshot.complete(clock.round(60, numbers(1..=1))), Changes::default());
}

#[test]
fn a_deleted_stage_does_not_come_back_with_an_old_round() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, numbers(1..=1)));
    snapshot.wrote(id(1), None, clock.at(61));
    assert_eq!(snapshot.complete(clock.round(60, numbers(1..=1))), Changes::default());
    assert!(snapshot.row(id(1)).is_none());
    assert_eq!(snapshot.pk_of_name("s1"), Lookup::Absent);
    assert_eq!(
        snapshot.complete(clock.round(120, vec![])),
        Changes::default(),
        "nor is it missed"
    );
}

#[test]
fn names_follow_a_rename_and_a_foreign_name_is_known() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    assert_eq!(snapshot.pk_of_name("s1"), Lookup::Unknown);
    let mut round = clock.round(0, numbers(1..=1));
    round.names.insert("theirs".into(), id(7));
    round.seen.insert(id(7));
    let _ = snapshot.complete(round);
    assert_eq!(snapshot.pk_of_name("theirs"), Lookup::Present(id(7)));
    assert!(snapshot.row(id(7)).is_none());
    let renamed = StageRow {
        name: "new".into(),
        ..row(1, "+1")
    };
    snapshot.wrote(id(1), Some(renamed), clock.at(1));
    assert_eq!(snapshot.pk_of_name("s1"), Lookup::Absent);
    assert_eq!(snapshot.pk_of_name("new"), Lookup::Present(id(1)));
    // An older round still has the old name.
    let _ = snapshot.complete(clock.round(1, numbers(1..=1)));
    assert_eq!(snapshot.pk_of_name("s1"), Lookup::Absent);
}

#[test]
fn what_is_missing_is_told_once() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, numbers(1..=5)));
    let changes = snapshot.complete(clock.round(60, numbers(1..=4)));
    assert_eq!(
        changes,
        Changes {
            missing: vec![id(5)],
            ..Changes::default()
        }
    );
    assert!(snapshot.row(id(5)).is_none());
    assert_eq!(snapshot.complete(clock.round(120, numbers(1..=4))), Changes::default());
    assert_eq!(
        snapshot.complete(clock.round(180, numbers(1..=5))).changed,
        [id(5)],
        "it came back"
    );
}

#[test]
fn many_at_once_need_a_second_round() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, numbers(1..=10)));
    let changes = snapshot.complete(clock.round(60, numbers(1..=6)));
    assert!(changes.suspicious);
    assert_eq!(changes.missing.len(), 4);
    assert!(snapshot.row(id(10)).is_none(), "not trusted either");
    let changes = snapshot.complete(clock.round(120, numbers(1..=6)));
    assert!(!changes.suspicious, "the second round agrees");
    assert_eq!(changes.missing.len(), 4);
    assert_eq!(snapshot.complete(clock.round(180, numbers(1..=6))), Changes::default());
}

#[test]
fn a_false_alarm_leaves_nothing_behind() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, numbers(1..=10)));
    assert!(snapshot.complete(clock.round(60, vec![])).suspicious);
    assert_eq!(snapshot.complete(clock.round(120, numbers(1..=10))), Changes::default());
    assert!(snapshot.row(id(10)).is_some());
}

#[test]
fn few_or_a_small_part_are_not_suspicious() {
    for (known, left, suspicious, why) in [
        (4, 1, false, "three are few"),
        (5, 1, true, "four of five"),
        (20, 16, false, "four are a fifth of twenty"),
        (19, 15, true, "and more than a fifth of nineteen"),
    ] {
        let (clock, mut snapshot) = (clock(), Snapshot::new());
        let _ = snapshot.complete(clock.round(0, numbers(1..=known)));
        assert_eq!(
            snapshot.complete(clock.round(60, numbers(1..=left))).suspicious,
            suspicious,
            "{why}"
        );
    }
}

#[test]
fn what_is_no_longer_managed_is_forgotten_and_not_missed() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(0, numbers(1..=1)));
    let mut round = clock.round(60, vec![]);
    round.seen.insert(id(1));
    assert_eq!(snapshot.complete(round), Changes::default());
    assert!(snapshot.row(id(1)).is_none());
}

#[test]
fn an_older_round_is_ignored() {
    let (clock, mut snapshot) = (clock(), Snapshot::new());
    let _ = snapshot.complete(clock.round(60, numbers(1..=1)));
    assert_eq!(snapshot.complete(clock.round(0, vec![])), Changes::default());
    assert!(snapshot.row(id(1)).is_some());
}
