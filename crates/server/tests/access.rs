//! A whole server asked over TCP: nobody gets in without credentials, and what the command line
//! changes beside it holds at once.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::site;
use stonechat_server::access::{Access, Actor, NewToken, Role, Scope};
use stonechat_server::clock::now_ms;
use stonechat_server::store::records_beside;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks over a connection of its own and returns the whole answer.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_command_line_changes_holds_from_the_next_request_on() {
    let site = site().await;
    let http = site.server.http_addr;
    let beside = Access::new(records_beside(&common::settings(&site.folder)));
    let actor = Actor::command_line("anna");
    let get = |path: &'static str, token: String| async move {
        let header = format!("Authorization: Bearer {token}\r\n");
        status(&ask(http, "GET", path, &header, "").await)
    };
    assert_eq!(status(&ask(http, "GET", "/api/v1/status", "", "").await), 401);
    assert_eq!(status(&ask(http, "GET", "/metrics", "", "").await), 401);
    assert_eq!(status(&ask(http, "GET", "/health/live", "", "").await), 200);
    assert_eq!(status(&ask(http, "GET", "/", "", "").await), 200);

    let new = NewToken { name: "report".into(), scopes: vec![Scope::Read], expires_ms: None };
    let made = beside.add_token(&actor, None, new, now_ms()).await.expect("stored");
    assert_eq!(get("/api/v1/status", made.0.clone()).await, 200);
    assert_eq!(get("/api/v1/accounts", made.0.clone()).await, 403);
    beside.revoke_token(&actor, "report").await.expect("there");
    assert_eq!(get("/api/v1/status", made.0).await, 401);

    let password = "correct horse battery";
    beside.add_account(&actor, "anna", Role::Admin, password).await.expect("stored");
    let sign_in = format!(r#"{{"name":"anna","password":"{password}"}}"#);
    let answer = ask(http, "POST", "/api/v1/session", "", &sign_in).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.and_then(|line| line.split(';').next()).expect("a session").to_owned();
    assert!(cookie.starts_with(&format!("stonechat-{}=", http.port())), "{cookie}");
    let with_session = |path: &'static str| {
        let header = format!("Cookie: {cookie}\r\n");
        async move { status(&ask(http, "GET", path, &header, "").await) }
    };
    assert_eq!(with_session("/api/v1/accounts").await, 200);
    beside.add_account(&actor, "bert", Role::Admin, password).await.expect("stored");
    beside.set_role(&actor, "anna", Role::Viewer).await.expect("bert is left");
    assert_eq!(with_session("/api/v1/accounts").await, 403);
    assert_eq!(with_session("/api/v1/status").await, 200);
    beside.set_password(&actor, "anna", "another long password", None).await.expect("stored");
    assert_eq!(with_session("/api/v1/status").await, 401);

    let log = site.server.access().audit().list(None, 100).await.expect("readable");
    let signed_in = log.iter().find(|entry| entry.act == "session.begin").expect("noted");
    assert_eq!((signed_in.who.as_str(), signed_in.from.as_str()), ("anna", "127.0.0.1"));
    let found = beside.audit().verify(None).await.expect("readable");
    assert!(found.intact, "{:?}", found.faults);
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_sign_ins_leaves_the_server_answering() {
    let site = site().await;
    let http = site.server.http_addr;
    let new = NewToken { name: "report".into(), scopes: vec![Scope::Read], expires_ms: None };
    let access = site.server.access();
    let (token, _) = access.add_token(&Actor::server(), None, new, now_ms()).await.expect("stored");
    let header = format!("Authorization: Bearer {token}\r\n");
    let flood: Vec<_> = (0..200)
        .map(|number| {
            let body = format!(r#"{{"name":"user-{number}","password":"wrong horse battery"}}"#);
            tokio::spawn(
                async move { status(&ask(http, "POST", "/api/v1/session", "", &body).await) },
            )
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(status(&ask(http, "GET", "/api/v1/status", &header, "").await), 200);
    }
    let mut limited = 0;
    for one in flood {
        let status = one.await.expect("no panic");
        assert!([403, 429].contains(&status), "{status}");
        limited += usize::from(status == 429);
    }
    assert!(limited >= 150, "{limited} of 200 were limited");
    assert!(access.password_checks() <= 50, "{} hashes", access.password_checks());
    let access = Arc::clone(access);
    site.server.shutdown().await;
    drop(access);
}
