use serde::Serialize;
use serde_json::Value;
use stonechat_train::recipe::DetectorChoice;

use crate::Outcome;
use crate::output::Output;

/// List the kinds of detectors with their settings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat detectors

Settings are changed with `stonechat train --detector KIND --set NAME=VALUE`.")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    about: &'static str,
    features: Vec<String>,
    settings: Value,
}

impl Args {
    #[allow(clippy::unused_self, reason = "every command runs from its arguments")]
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        for choice in DetectorChoice::all() {
            let kind = Kind {
                kind: choice.kind(),
                about: choice.about(),
                features: choice.usual_features(),
                settings: choice.settings(),
            };
            output.result(&kind, || text(&kind));
        }
        Ok(Outcome::Done)
    }
}

fn text(kind: &Kind) -> String {
    let mut settings = Vec::new();
    flatten("", &kind.settings, &mut settings);
    let settings = if settings.is_empty() { "none".to_owned() } else { settings.join(" ") };
    format!("{:<17} {}\n{:<17} settings: {settings}", kind.kind, kind.about, "")
}

/// Writes settings as `--set` takes them.
fn flatten(prefix: &str, settings: &Value, flat: &mut Vec<String>) {
    let Some(settings) = settings.as_object() else { return };
    for (name, value) in settings {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(_) => flatten(&format!("{name}."), value, flat),
            Value::String(text) => flat.push(format!("{name}={text}")),
            _ => flat.push(format!("{name}={value}")),
        }
    }
}
