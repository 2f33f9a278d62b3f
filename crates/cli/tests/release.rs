//! Signing releases and checking them, as whoever ships detectors does.

mod support;

use serde_json::Value;
use support::{Folder, run, run_json};

fn ok(folder: &Folder, line: &str) -> Value {
    run_json(folder, &line.split(' ').collect::<Vec<_>>()).remove(0)
}

/// Returns why a check does not hold.
fn refusal(folder: &Folder, line: &str) -> String {
    let args: Vec<&str> =
        ["--json", "release", "verify"].into_iter().chain(line.split(' ')).collect();
    let output = run(folder, &args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["holds"], false);
    told["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn releases_hold_with_the_keys_that_count_and_no_others() {
    let folder = Folder::new("release");
    let key = |name: &str| {
        let made = ok(&folder, &format!("release key {name}"));
        made["key_id"].as_str().expect("an id").to_owned()
    };
    let _roots = ["a", "b", "c"].map(key);
    let (team, _new) = (key("team"), key("new"));
    ok(&folder, "data synth temperature --rows 500 -o normal.csv");
    ok(&folder, "train normal.csv --detector z-score -o room.detector");
    ok(
        &folder,
        "release keys --root a.pub --root b.pub --root c.pub --threshold 2 --release team.pub \
         --sign a.key --sign b.key -o keys.cose",
    );
    let sign = "release sign room.detector --hardware esp32c3 --label 1.2.0";
    let signed = ok(&folder, &format!("{sign} --sequence 7 --key team.key -o room.release"));
    let seen = ok(&folder, "release inspect room.release");
    assert_eq!(seen["release"], signed["release"]);
    assert_eq!(
        (seen["component"].as_str(), seen["sequence"].as_u64()),
        (Some("detector"), Some(7))
    );
    assert_eq!(seen["key_id"], team.as_str());

    let held = ok(&folder, "release verify room.release --keys keys.cose --image room.detector");
    assert_eq!(held["holds"], true);
    std::fs::copy(folder.path().join("normal.csv"), folder.path().join("other")).expect("copied");
    let other = refusal(&folder, "room.release --keys keys.cose --image other");
    assert!(other.contains("not the one that was signed"), "{other}");

    // A key that is not listed, then listed instead of the old one.
    ok(&folder, &format!("{sign} --sequence 8 --key new.key -o next.release"));
    assert!(refusal(&folder, "next.release --keys keys.cose").contains("not trusted"));
    let rotate = format!("release keys --after keys.cose --release new.pub --revoke {team}");
    let one = format!("{rotate} --sign a.key -o keys-2.cose");
    let one = run(&folder, &one.split(' ').collect::<Vec<_>>());
    assert_eq!(one.status.code(), Some(2), "one root key of two");
    ok(&folder, &format!("{rotate} --sign a.key --sign c.key -o keys-2.cose"));
    ok(&folder, "release verify keys-2.cose --keys keys.cose");
    assert!(refusal(&folder, "keys.cose --keys keys-2.cose").contains("not newer"));
    assert!(refusal(&folder, "room.release --keys keys-2.cose").contains("revoked"));
    ok(&folder, "release verify next.release --keys keys-2.cose");

    // Every byte counts.
    let path = folder.path().join("next.release");
    let bytes = std::fs::read(&path).expect("readable");
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        std::fs::write(&path, forged).expect("writable");
        let args = ["release", "verify", "next.release", "--keys", "keys-2.cose"];
        assert_ne!(run(&folder, &args).status.code(), Some(0), "byte {at}");
    }
}
