//! Accounts, tokens and the audit log from the command line, beside a running server.

mod support;

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::{Folder, Server, free_port, run, run_json, stonechat};

const PASSWORD: &str = "correct horse battery";

/// Runs the program with something at its standard input.
fn run_with(folder: &Folder, args: &[&str], input: &str) -> Output {
    let mut command = stonechat(folder, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn people_and_programs_are_administered_beside_a_running_server() {
    let folder = Folder::new("access");
    let server = Server::start(&folder, free_port());
    // The server of the test has a token already, made beside it and used at once.
    assert_eq!(server.api("/accounts")["accounts"], Value::Array(Vec::new()));
    let add = ["account", "add", "Anna", "--role", "admin", "--data", "data"];
    let made = run_with(&folder, &add, &format!("{PASSWORD}\nsecond line\n"));
    assert!(made.status.success(), "{}", said(&made));
    assert!(!String::from_utf8_lossy(&made.stdout).contains(PASSWORD));
    assert_eq!(server.api("/accounts")["accounts"][0]["name"], "anna");

    let again = run_with(&folder, &add, PASSWORD);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(said(&again), "error: the account anna exists already\n");
    let short = run_with(&folder, &["account", "password", "anna", "--data", "data"], "short\n");
    assert_eq!(short.status.code(), Some(2));
    assert!(said(&short).contains("at least 12 characters"), "{}", said(&short));
    let last = run(&folder, &["account", "remove", "anna", "--yes", "--data", "data"]);
    assert_eq!(last.status.code(), Some(2));
    assert!(said(&last).contains("last admin"), "{}", said(&last));
    let asked = run_with(&folder, &["account", "remove", "anna", "--data", "data"], "");
    assert_eq!(asked.status.code(), Some(2));
    assert!(said(&asked).contains("--yes"), "{}", said(&asked));

    let file = folder.path().join("wall.password");
    std::fs::write(&file, "another long password\n").expect("writable");
    let file = file.display().to_string();
    let wall = ["account", "add", "wall", "--password-file", &file, "--data", "data"];
    assert_eq!(run_json(&folder, &wall)[0]["role"], "viewer");
    run_json(&folder, &["account", "role", "wall", "operator", "--data", "data"]);
    let listed = run_json(&folder, &["account", "list", "--data", "data"]);
    let listed: Vec<_> =
        listed.iter().map(|account| (&account["name"], &account["role"])).collect();
    assert_eq!(
        format!("{listed:?}"),
        r#"[(String("anna"), String("admin")), (String("wall"), String("operator"))]"#
    );

    let token = ["token", "add", "grafana", "--scope", "metrics", "--data", "data"];
    let made = run_json(&folder, &token);
    assert!(made[0]["token"].as_str().expect("text").starts_with("sct_"));
    let tokens = run_json(&folder, &["token", "list", "--data", "data"]);
    assert!(tokens.iter().any(|token| token["name"] == "grafana" && token.get("token").is_none()));
    run_json(&folder, &["token", "revoke", "grafana", "--yes", "--data", "data"]);
    assert_eq!(server.api("/tokens")["tokens"].as_array().map(Vec::len), Some(1));

    let acts: Vec<Value> = run_json(&folder, &["audit", "list", "--data", "data"]);
    let acts: Vec<&str> = acts.iter().filter_map(|entry| entry["act"].as_str()).collect();
    let expected = ["token.revoke", "token.add", "account.role", "account.add", "account.add"];
    assert_eq!(acts[..5], expected, "newest first");
    let found = run_json(&folder, &["audit", "verify", "--data", "data"]);
    assert_eq!((&found[0]["intact"], &found[0]["entries"]), (&Value::Bool(true), &Value::from(6)));
    let head = &found[0]["head"];
    let noted = format!("{}:{}", head["sequence"], head["hash"].as_str().expect("text"));
    let verify = ["audit", "verify", "--data", "data", "--expect"];
    let good = run(&folder, &[&verify[..], &[&noted]].concat());
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    let forged = noted.replace(&noted[noted.len() - 1..], "x");
    let bad = run(&folder, &[&verify[..], &[&forged]].concat());
    assert_eq!(bad.status.code(), Some(1), "an honest no");
    let printed = String::from_utf8(bad.stdout).expect("UTF-8");
    assert!(printed.contains("FAULT") && printed.contains("NOT INTACT"), "{printed}");
}

#[test]
fn without_a_data_folder_there_is_nothing_to_administer() {
    let folder = Folder::new("access-none");
    for args in [&["account", "list"][..], &["token", "list"], &["audit", "verify"]] {
        let output = run(&folder, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).starts_with("error: there is no data folder"), "{}", said(&output));
    }
}

#[test]
fn a_new_server_prints_a_set_up_link_until_there_is_an_account() {
    let folder = Folder::new("access-link");
    let started = |folder: &Folder| {
        let server = Server::start(folder, free_port());
        server.started().clone()
    };
    let first = started(&folder)["set_up_url"].as_str().expect("a link").to_owned();
    let second = started(&folder)["set_up_url"].as_str().expect("a link").to_owned();
    let secret = |link: &str| link.split_once('#').expect("a secret").1.to_owned();
    assert!(first.contains("/set-up#"), "{first}");
    assert_ne!(secret(&first), secret(&second), "only its hash is kept");
    let add = ["account", "add", "anna", "--role", "admin", "--data", "data"];
    assert!(run_with(&folder, &add, PASSWORD).status.success());
    assert_eq!(started(&folder)["set_up_url"], Value::Null);
}
