//! The address of a database, whose password nobody gets to see.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

/// The address of a MySQL or MariaDB database: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, or
/// empty for none. Wherever it is shown or written, its password is not.
///
/// To a host that is not this one, the connection is encrypted and the host's certificate checked,
/// unless the address says otherwise (`?ssl-mode=REQUIRED`, `?ssl-ca=FILE`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// A text is no address of a database. It does not repeat the text, which may have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no address of a database: {reason}; write mysql://USER:PASSWORD@HOST/DATABASE, with % codes for special characters in the password"
)]
pub struct BadDatabaseUrl {
    reason: &'static str,
}

impl DatabaseUrl {
    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the address with its password, for whoever hands it to another program by a file or
    /// the environment.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns how to connect.
    pub(super) fn options(&self) -> Result<MySqlConnectOptions, BadDatabaseUrl> {
        let wrong = |reason| BadDatabaseUrl { reason };
        let scheme = self.0.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("mysql" | "mariadb")) {
            return Err(wrong("it does not begin with mysql:// or mariadb://"));
        }
        let mut options = MySqlConnectOptions::from_str(&self.0)
            .map_err(|_| wrong("its parts cannot be told apart"))?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(wrong("it names no database"));
        }
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        let names = |key: &str| {
            query.split('&').any(|pair| pair.split('=').next().is_some_and(|name| name == key))
        };
        if !names("ssl-mode") && !names("sslmode") {
            let near = names("socket") || is_loopback(options.get_host());
            let mode = if near { MySqlSslMode::Preferred } else { MySqlSslMode::VerifyIdentity };
            options = options.ssl_mode(mode);
        }
        // A statement of a thousand rows is no use in a log.
        Ok(options.disable_statement_logging())
    }

    /// The address without password and options.
    fn shown(&self) -> String {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let end = rest.find('?').unwrap_or(rest.len());
        let (scheme, rest) = (self.0.split("://").next().unwrap_or_default(), &rest[..end]);
        // A password with a bare `@` or `/` is cut at the last `@`.
        let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        match user.split_once(':') {
            _ if self.0.is_empty() => String::new(),
            Some((name, _)) => format!("{scheme}://{name}:***@{place}"),
            None if user.is_empty() => format!("{scheme}://{place}"),
            None => format!("{scheme}://{user}@{place}"),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, BadDatabaseUrl> {
        let url = Self(text.trim().to_owned());
        if !url.is_empty() {
            url.options()?;
        }
        Ok(url)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is not part of the error, unlike in serde's own ones.
        let text = String::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("not a text"))?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        for (text, shown) in [
            ("mysql://me:secret@localhost/db", "mysql://me:***@localhost/db"),
            (
                "mysql://me:se:cr@et/@localhost:3307/db?ssl-key=secret",
                "mysql://me:***@localhost:3307/db",
            ),
            ("mariadb://me@[::1]/db", "mariadb://me@[::1]/db"),
            ("mysql://localhost/db", "mysql://localhost/db"),
            ("", ""),
        ] {
            let url = DatabaseUrl(text.to_owned());
            assert_eq!(url.to_string(), shown);
            let all = format!("{url} {url:?} {}", serde_json::to_string(&url).expect("a text"));
            assert!(!all.contains("secret") && !all.contains("cr@et"), "{all}");
        }
    }

    #[test]
    fn errors_do_not_repeat_the_text() {
        for text in [
            "secret",
            "postgres://me:secret@h/db",
            "mysql://me:secret@h",
            "mysql://me:secret@h:x/db",
            "mysql:///",
        ] {
            let error = text.parse::<DatabaseUrl>().expect_err(text).to_string();
            assert!(!error.contains("secret"), "{error}");
            let json = serde_json::Value::from(text);
            let error = serde_json::from_value::<DatabaseUrl>(json).expect_err(text).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let number = serde_json::from_str::<DatabaseUrl>("4711").expect_err("a number");
        assert!(!number.to_string().contains("4711"), "{number}");
    }

    #[test]
    fn other_hosts_are_spoken_to_by_tls_only() {
        let mode = |text: &str| {
            let options = text.parse::<DatabaseUrl>().expect("legal").options().expect("legal");
            format!("{:?}", options.get_ssl_mode())
        };
        assert_eq!(mode("mysql://me:x@localhost/db"), "Preferred");
        assert_eq!(mode("mysql://me:x@127.0.0.1/db"), "Preferred");
        assert_eq!(mode("mysql://me:x@[::1]/db"), "Preferred");
        assert_eq!(mode("mysql://me:x@db.example/db"), "VerifyIdentity");
        assert_eq!(mode("mysql://me:x@db.example/db?ssl-mode=DISABLED"), "Disabled");
        assert_eq!(mode("mysql://me:x@127.0.0.1/db?ssl-mode=REQUIRED"), "Required");
    }
}
