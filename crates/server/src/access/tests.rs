//! The audit log under tampering, sessions over time, and changes at once.

use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::audit::{Fault, Link};
use super::*;
use crate::limits::{SESSION_IDLE_MS, SESSION_LIFE_MS, SESSIONS_PER_ACCOUNT_MAX};
use crate::store::sqlite::RecordsBeside;

struct Site {
    access: Access,
    folder: TempDir,
}

fn site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Site { access: Access::new(Arc::new(RecordsBeside::in_folder(folder.path()))), folder }
}

impl Site {
    async fn with_entries(count: u64) -> Self {
        let site = site();
        let actor = Actor::command_line("anna");
        for number in 1..=count {
            let subject = format!("number {number}");
            let act = Act { actor: &actor, act: "test", subject: &subject, ending: Ending::Done };
            site.access.audit().note(&act).await.expect("stored");
        }
        site
    }

    /// Changes the database behind the server's back.
    fn tamper(&self, sql: &str) {
        let file = self.folder.path().join("stonechat.sqlite");
        let connection = Connection::open(file).expect("the database");
        let count = connection.execute(sql, []).expect("legal SQL");
        assert!(count > 0, "`{sql}` changed nothing");
    }

    async fn faults(&self) -> Vec<Fault> {
        let found = self.access.audit().verify(None).await.expect("readable");
        assert_eq!(found.intact, found.faults.is_empty());
        found.faults
    }
}

/// Names an entry in SQL.
fn entry(sequence: u64) -> String {
    format!("class = 'audit' AND key = '{:020}'", u64::MAX - sequence)
}

#[tokio::test]
async fn an_untouched_log_is_intact_and_its_hashes_are_those_of_the_description() {
    let site = Site::with_entries(3).await;
    let found = site.access.audit().verify(None).await.expect("readable");
    assert!(found.intact, "{:?}", found.faults);
    assert_eq!(found.entries, 3);
    let listed = site.access.audit().list(None, 10).await.expect("readable");
    assert_eq!(listed.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [3, 2, 1]);
    let older = site.access.audit().list(Some(3), 1).await.expect("readable");
    assert_eq!(older, listed[1..2]);
    // As anybody can compute it from what the API shows.
    use sha2::{Digest, Sha256};
    for entry in &listed {
        let text = format!(
            "stonechat audit 1\n{{\"sequence\":{},\"time_ms\":{},\"who\":\"cli:anna\",\"from\":\"local\",\"act\":\"test\",\"subject\":\"{}\",\"ending\":\"done\",\"previous\":\"{}\"}}",
            entry.sequence, entry.time_ms, entry.subject, entry.previous
        );
        let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry.hash, hash);
    }
    assert_eq!(listed[0].previous, listed[1].hash);
    assert_eq!(listed[2].previous, "0".repeat(64));
    assert!(site_is_empty_when_new().await);
}

async fn site_is_empty_when_new() -> bool {
    let site = site();
    let found = site.access.audit().verify(None).await.expect("readable");
    found.intact && found.entries == 0 && found.head.is_none()
}

#[tokio::test]
async fn changed_entries_are_found() {
    let changes = [
        "replace(body, 'number 2', 'number 9')",
        "replace(body, 'cli:anna', 'cli:bert')",
        "replace(body, 'done', 'refused')",
        "replace(body, 'local', 'remote')",
        "replace(body, '\"time_ms\":1', '\"time_ms\":2')",
        "replace(body, '\"sequence\":2', '\"sequence\":2.0')",
        "replace(body, ',\"act\"', ', \"act\"')",
        "'nonsense'",
    ];
    for change in changes {
        let site = Site::with_entries(4).await;
        site.tamper(&format!("UPDATE record SET body = {change} WHERE {}", entry(2)));
        let faults = site.faults().await;
        let named = |fault: &Fault| {
            matches!(fault, Fault::Changed { sequence: 2 } | Fault::Unreadable { .. })
        };
        assert!(faults.iter().any(named), "{change}: {faults:?}");
    }
}

#[tokio::test]
async fn removed_entries_are_found_wherever_they_were() {
    for removed in 1..=4 {
        let site = Site::with_entries(4).await;
        site.tamper(&format!("DELETE FROM record WHERE {}", entry(removed)));
        let faults = site.faults().await;
        let expected = match removed {
            4 => Fault::OtherHead,
            inner => Fault::Missing { from: inner, to: inner },
        };
        assert_eq!(faults, [expected], "entry {removed}");
    }
    let site = Site::with_entries(4).await;
    site.tamper("DELETE FROM record WHERE class = 'audit'");
    assert_eq!(site.faults().await, [Fault::OtherHead], "all of them");
    let site = Site::with_entries(4).await;
    site.tamper("DELETE FROM record WHERE key = 'audit-head'");
    assert_eq!(site.faults().await, [Fault::OtherHead], "the head");
}

#[tokio::test]
async fn moved_and_inserted_entries_are_found() {
    let site = Site::with_entries(4).await;
    site.tamper(&format!("UPDATE record SET key = 'x' WHERE {}", entry(2)));
    site.tamper(&format!("UPDATE record SET key = '{:020}' WHERE {}", u64::MAX - 2, entry(3)));
    site.tamper(&format!("UPDATE record SET key = '{:020}' WHERE key = 'x'", u64::MAX - 3));
    let faults = site.faults().await;
    assert!(faults.contains(&Fault::Misplaced { sequence: 2 }), "{faults:?}");
    assert!(faults.contains(&Fault::Misplaced { sequence: 3 }), "{faults:?}");

    // A copy of an entry, and one whose hash fits but which follows nothing.
    let site = Site::with_entries(4).await;
    site.tamper(&format!(
        "INSERT INTO record (class, key, revision, changed_ms, body) \
         SELECT class, key || '5', revision, changed_ms, body FROM record WHERE {}",
        entry(2)
    ));
    assert!(!site.faults().await.is_empty(), "a copy");

    let site = Site::with_entries(4).await;
    let forger = Site::with_entries(5).await;
    let forged = forger.access.audit().list(None, 1).await.expect("readable").remove(0);
    site.tamper(&format!(
        "INSERT INTO record (class, key, revision, changed_ms, body) VALUES ('audit', '{:020}', 99, 0, '{}')",
        u64::MAX - 5,
        serde_json::to_string(&forged).expect("JSON")
    ));
    let faults = site.faults().await;
    assert!(faults.contains(&Fault::Unlinked { sequence: 5 }), "{faults:?}");
    assert!(faults.contains(&Fault::OtherHead), "{faults:?}");
}

#[tokio::test]
async fn a_log_that_was_forged_as_a_whole_is_not_the_one_that_was_noted() {
    let site = Site::with_entries(4).await;
    let noted = site.access.audit().verify(None).await.expect("readable").head.expect("entries");
    let check = |access: Access, noted: Link| async move {
        access.audit().verify(Some(&noted)).await.expect("readable")
    };
    let forged = Site::with_entries(4).await;
    let found = check(forged.access, noted.clone()).await;
    assert_eq!(found.faults, [Fault::NotAsExpected { sequence: 4 }]);
    let act = Act { actor: &Actor::server(), act: "test", subject: "", ending: Ending::Done };
    site.access.audit().note(&act).await.expect("stored");
    assert!(check(site.access, noted).await.intact, "an older entry is good, too");
}

#[tokio::test]
async fn the_retention_leaves_a_log_that_can_be_checked() {
    let site = Site::with_entries(6).await;
    let (audit, server) = (site.access.audit(), Actor::server());
    assert_eq!(audit.prune(0, &server).await.expect("stored"), 0);
    // Three of them get older, as far as their own word goes; then the chain does not fit, of course.
    let present = audit.prune(i64::MAX, &server).await.expect("stored");
    assert_eq!(present, 6);
    let found = audit.verify(None).await.expect("readable");
    assert!(found.intact, "{:?}", found.faults);
    assert_eq!(found.entries, 1, "what notes the removal");
    for _ in 0..3 {
        let act = Act { actor: &server, act: "test", subject: "", ending: Ending::Done };
        audit.note(&act).await.expect("stored");
    }
    assert!(site.faults().await.is_empty());
    assert_eq!(audit.prune(i64::MAX, &server).await.expect("stored"), 4);
    assert!(site.faults().await.is_empty());
    // Who removes more by moving the anchor is found.
    for _ in 0..3 {
        let act = Act { actor: &server, act: "test", subject: "", ending: Ending::Done };
        audit.note(&act).await.expect("stored");
    }
    let oldest = audit.list(None, 10).await.expect("readable").pop().expect("entries");
    let anchor = Link { sequence: oldest.sequence, hash: oldest.hash };
    site.tamper(&format!("DELETE FROM record WHERE {}", entry(anchor.sequence)));
    assert!(!site.faults().await.is_empty());
    site.tamper(&format!(
        "UPDATE record SET body = '{}' WHERE key = 'audit-anchor'",
        serde_json::to_string(&anchor).expect("JSON")
    ));
    assert_eq!(site.faults().await, [Fault::Unconfirmed { sequence: anchor.sequence }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_noted_at_once_by_several_processes_form_one_chain() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tasks = Vec::new();
    for writer in 0..3 {
        let audit = Audit::of(Arc::new(RecordsBeside::in_folder(folder.path())));
        tasks.push(tokio::spawn(async move {
            let actor = Actor::command_line(&format!("writer-{writer}"));
            for _ in 0..5 {
                let act = Act { actor: &actor, act: "test", subject: "", ending: Ending::Done };
                audit.note(&act).await.expect("stored");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let audit = Audit::of(Arc::new(RecordsBeside::in_folder(folder.path())));
    let found = audit.verify(None).await.expect("readable");
    assert!(found.intact, "{:?}", found.faults);
    assert_eq!(found.entries, 15);
}

#[tokio::test]
async fn a_session_ends_when_it_rests_too_long_and_at_the_latest_after_its_life() {
    let site = site();
    let credential = site.access.session_for_test("anna", Role::Viewer).await;
    let text = credential.reveal();
    let begun_ms = crate::clock::now_ms();
    let mut now_ms = begun_ms;
    // Used often enough, it lives its whole life.
    while now_ms + SESSION_IDLE_MS - 60_000 < begun_ms + SESSION_LIFE_MS - 60_000 {
        now_ms += SESSION_IDLE_MS - 60_000;
        let person = site.access.person(text, now_ms).await.expect("readable").expect("alive");
        assert_eq!((person.account.as_str(), person.role), ("anna", Role::Viewer));
    }
    let end_ms = begun_ms + SESSION_LIFE_MS + 1_000;
    assert_eq!(site.access.person(text, end_ms).await.expect("readable"), None);

    let resting = site.access.session_for_test("anna", Role::Viewer).await;
    let late_ms = crate::clock::now_ms() + SESSION_IDLE_MS + 1_000;
    assert_eq!(site.access.person(resting.reveal(), late_ms).await.expect("readable"), None);
    assert_eq!(site.access.sweep(late_ms + SESSION_LIFE_MS).await.expect("stored"), 2);
    assert_eq!(site.access.sweep(late_ms + SESSION_LIFE_MS).await.expect("stored"), 0);
}

#[tokio::test]
async fn the_database_holds_no_secret_that_opens_anything() {
    let site = site();
    let access = &site.access;
    let session = access.session_for_test("anna", Role::Admin).await;
    let server = Actor::server();
    access.set_password(&server, "anna", "correct horse battery", None).await.expect("stored");
    let session = (session, access.session_for_test("anna", Role::Admin).await).1;
    let new = NewToken { name: "t".into(), scopes: vec![Scope::Read], expires_ms: None };
    let (token, _) = access.add_token(&server, None, new, 0).await.expect("stored");
    let link = access.offer_demo(0).await.expect("stored");
    let mut bytes = Vec::new();
    for name in ["stonechat.sqlite", "stonechat.sqlite-wal"] {
        bytes.extend(std::fs::read(site.folder.path().join(name)).unwrap_or_default());
    }
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(session.id()) && holds("$argon2id$"), "the search finds what is there");
    for secret in ["correct horse", session.reveal(), &token[4..], link.reveal()] {
        assert!(!holds(secret), "{secret}");
        assert!(!holds(&secret[secret.len() - 12..]), "the end of {secret}");
    }
}

#[tokio::test]
async fn a_flood_of_acts_in_vain_does_not_fill_the_log() {
    let site = site();
    let note = |who: String, now_ms: i64| {
        let access = &site.access;
        async move {
            let actor = Actor { who, from: "192.0.2.7".to_owned() };
            let act = Act { actor: &actor, act: "test", subject: "", ending: Ending::Refused };
            access.note_in_vain(&act, now_ms).await.expect("stored");
        }
    };
    let burst = PACE_OF_NOTES_IN_VAIN.burst as usize;
    for _ in 0..burst + 70 {
        note("mallory".to_owned(), 0).await;
    }
    let audit = site.access.audit();
    assert_eq!(audit.list(None, 500).await.expect("readable").len(), burst);
    note("anna".to_owned(), 0).await;
    note("mallory".to_owned(), PACE_OF_NOTES_IN_VAIN.interval_ms).await;
    let newest = audit.list(None, 2).await.expect("readable");
    assert_eq!(newest[1].subject, "(70 more in vain were not noted)");
    assert_eq!((newest[0].who.as_str(), newest[0].subject.as_str()), ("mallory", ""));
}

#[tokio::test]
async fn an_account_has_so_many_sessions_and_no_more() {
    let site = site();
    let first = site.access.session_for_test("anna", Role::Viewer).await;
    for _ in 0..SESSIONS_PER_ACCOUNT_MAX {
        site.access.session_for_test("anna", Role::Viewer).await;
    }
    let account = site.access.find_account("anna").await.expect("readable").expect("there").1;
    let present = site.access.sessions_of_account(&account.id).await.expect("readable");
    assert_eq!(present.len(), SESSIONS_PER_ACCOUNT_MAX);
    assert!(!present.iter().any(|(record, _)| record.key == first.id()), "the oldest goes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_admins_who_demote_each_other_at_once_leave_one() {
    for _ in 0..4 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let access = || Access::new(Arc::new(RecordsBeside::in_folder(folder.path())));
        let (one, other) = (access(), access());
        one.session_for_test("anna", Role::Admin).await;
        one.session_for_test("bert", Role::Admin).await;
        let server = Actor::server();
        let (a, b) = tokio::join!(
            one.set_role(&server, "bert", Role::Viewer),
            other.remove_account(&server, "anna"),
        );
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let left = one.accounts().await.expect("readable");
        assert_eq!(left.iter().filter(|account| account.role == Role::Admin).count(), 1);
    }
}

#[test]
fn names_have_one_form() {
    assert_eq!(normal_name(" Anna.Berg@Example.org ").expect("legal"), "anna.berg@example.org");
    for bad in ["", " ", "-anna", "anna-", "an na", "änna", "a/b", "a'b", &"x".repeat(65)] {
        assert!(normal_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn wider_rights_hold_narrower_ones() {
    for need in [Need::Nothing, Need::Person, Need::Read, Need::Operate, Need::Admin, Need::Metrics]
    {
        for pair in Role::ALL.windows(2) {
            assert!(!pair[0].may(need) || pair[1].may(need), "{need:?}");
        }
        assert!(need.role().is_some(), "{need:?}");
    }
    assert_eq!(Need::Ingest.role(), None);
    for scope in Scope::ALL {
        assert!(!scope.may(Need::Person), "{scope}");
        assert_eq!(scope.as_str().parse::<Scope>(), Ok(scope));
    }
}
