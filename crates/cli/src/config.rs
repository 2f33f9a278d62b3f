//! Settings in layers: flag, environment, project file, user file, default.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::Serialize;
use stonechat_server::Settings;
use stonechat_server::store::DatabaseUrl;
use toml::{Table, Value};

use crate::output::Hinted;

/// The project file, looked for in the current folder.
pub(crate) const PROJECT_FILE: &str = "stonechat.toml";
/// The prefix of environment variables; the key follows in capitals.
const ENVIRONMENT_PREFIX: &str = "STONECHAT_";

/// What the command line says about the server's settings.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Server settings")]
pub(crate) struct SettingsArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Where to serve dashboard and API: ADDRESS:PORT; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Where devices connect by MQTT: ADDRESS:PORT; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS")]
    mqtt: Option<String>,
    /// Where devices connect by MQTT within TLS 1.3 besides: ADDRESS:PORT, or off.
    #[arg(long, value_name = "ADDRESS")]
    mqtts: Option<String>,
    /// Where to serve dashboard and API over TLS 1.3 besides: ADDRESS:PORT, or off.
    #[arg(long, value_name = "ADDRESS")]
    https: Option<String>,
    /// Where devices without TLS connect by sealed sessions over TCP: ADDRESS:PORT, or off.
    #[arg(long, value_name = "ADDRESS")]
    sealed: Option<String>,
    /// Where to take in the old RSA packets, which anyone can forge: ADDRESS:PORT, or off.
    #[arg(long, value_name = "ADDRESS")]
    legacy: Option<String>,
}

/// What the command line says to commands that need the server's data folder only.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Server settings")]
pub(crate) struct FolderArgs {
    /// The folder of the database.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The settings file; without it, stonechat.toml in this folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FolderArgs {
    /// Returns the settings of the server of this data folder.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        SettingsArgs { folder: self, ..SettingsArgs::default() }.settings()
    }
}

/// A setting and where it came from.
#[derive(Debug, Serialize)]
pub(crate) struct Origin {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) from: String,
}

impl Origin {
    /// Leaves out what is not for the eye.
    pub(crate) fn without_password(mut self) -> Self {
        self.value = shown(&self.key, &self.value);
        self
    }
}

/// Returns a value as it may be shown: an address of a database has a password.
fn shown(key: &str, value: &Value) -> Value {
    if key != "database" {
        return value.clone();
    }
    let url = value.as_str().and_then(|text| text.parse::<DatabaseUrl>().ok());
    Value::String(url.map_or_else(|| "***".to_owned(), |url| url.to_string()))
}

struct Layer {
    from: String,
    table: Table,
}

impl Layer {
    /// Checks each value alone, so that the error can name its key and where it stands.
    fn check(&self) -> anyhow::Result<()> {
        for (key, value) in &self.table {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            if let Err(error) = Value::Table(alone).try_into::<Settings>() {
                let hint = match key.as_str() {
                    "http" | "mqtt" | "mqtts" | "https" | "sealed" | "legacy" => {
                        "write an address and a port, such as 127.0.0.1:8080"
                    }
                    _ => "`stonechat config template` prints every setting with its default",
                };
                let place = match self.from.as_str() {
                    "flag" => format!("the flag --{key}"),
                    "environment" => format!("the environment variable {}", variable(key)),
                    file => format!("the setting `{key}` in `{file}`"),
                };
                let reason = error.message().replace("u32", "a whole number");
                return Err(Hinted::new(
                    format!("{place} is {}: {reason}", shown(key, value)),
                    hint,
                ));
            }
        }
        Ok(())
    }
}

impl SettingsArgs {
    /// Puts the layers together.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        self.settings_over(&Settings::default())
    }

    /// Puts the layers together over other defaults.
    pub(crate) fn settings_over(&self, defaults: &Settings) -> anyhow::Result<Settings> {
        let merged: Table =
            self.origins(defaults)?.into_iter().map(|origin| (origin.key, origin.value)).collect();
        Value::Table(merged).try_into().context("the settings do not fit together")
    }

    /// Returns every setting with its value and origin.
    pub(crate) fn origins(&self, defaults: &Settings) -> anyhow::Result<Vec<Origin>> {
        let defaults = Table::try_from(defaults).context("the defaults are a table")?;
        let layers = self.layers(&defaults)?;
        for layer in &layers {
            layer.check()?;
        }
        let origin = |(key, default): (&String, &Value)| {
            let layer = layers.iter().find(|layer| layer.table.contains_key(key));
            Origin {
                key: key.clone(),
                value: layer.and_then(|layer| layer.table.get(key)).unwrap_or(default).clone(),
                from: layer.map_or_else(|| "default".to_owned(), |layer| layer.from.clone()),
            }
        };
        Ok(defaults.iter().map(origin).collect())
    }

    /// The layers, strongest first.
    fn layers(&self, defaults: &Table) -> anyhow::Result<Vec<Layer>> {
        let mut layers = vec![
            Layer { from: "flag".to_owned(), table: self.flags() },
            Layer { from: "environment".to_owned(), table: environment(defaults)? },
        ];
        let project = self.folder.config.clone().unwrap_or_else(|| PathBuf::from(PROJECT_FILE));
        let must_exist = self.folder.config.is_some();
        let user = user_file().map(|path| (path, false));
        for (path, must_exist) in std::iter::once((project, must_exist)).chain(user) {
            if let Some(table) = read_file(&path, must_exist, defaults)? {
                layers.push(Layer { from: path.display().to_string(), table });
            }
        }
        Ok(layers)
    }

    fn flags(&self) -> Table {
        let data = self.folder.data.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("data", data),
            ("http", self.http.clone()),
            ("mqtt", self.mqtt.clone()),
            ("mqtts", self.mqtts.clone()),
            ("https", self.https.clone()),
            ("sealed", self.sealed.clone()),
            ("legacy", self.legacy.clone()),
        ];
        let given =
            |(key, value): (&str, Option<String>)| Some((key.to_owned(), Value::String(value?)));
        flags.into_iter().filter_map(given).collect()
    }
}

fn user_file() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(folder.join("stonechat").join("config.toml"))
}

fn read_file(path: &Path, must_exist: bool, defaults: &Table) -> anyhow::Result<Option<Table>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok(None);
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read the settings file `{}`", path.display()));
        }
    };
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| {
            // The line itself may hold a password.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            anyhow!("TOML parse error at line {line}: {}", error.message())
        })
        .with_context(|| format!("the settings file `{}` is not TOML", path.display()))?;
    for key in table.keys() {
        if !defaults.contains_key(key) {
            return Err(unknown_key(key, &path.display().to_string(), defaults));
        }
    }
    Ok(Some(table))
}

/// Returns the name of a key's environment variable.
fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase())
}

/// Reads `STONECHAT_KEY` for each key. Text is taken as it is where the default is text, else as TOML.
fn environment(defaults: &Table) -> anyhow::Result<Table> {
    let mut table = Table::new();
    for (key, default) in defaults {
        let name = variable(key);
        let Ok(text) = std::env::var(&name) else {
            continue;
        };
        let value = match default {
            Value::String(_) => Value::String(text),
            _ => {
                let line = format!("value = {text}").parse::<Table>().map_err(|error| {
                    Hinted::new(
                        format!("the environment variable {name} is `{text}`: {}", error.message()),
                        format!("write it as in the settings file, such as {default}"),
                    )
                })?;
                line["value"].clone()
            }
        };
        table.insert(key.clone(), value);
    }
    Ok(table)
}

fn unknown_key(key: &str, file: &str, defaults: &Table) -> anyhow::Error {
    let known: Vec<&str> = defaults.keys().map(String::as_str).collect();
    Hinted::new(
        format!("the settings file `{file}` has an unknown key `{key}`"),
        format!(
            "known keys are {}; `stonechat config template` prints them with their defaults",
            known.join(", ")
        ),
    )
}
