use serde::Serialize;
use stonechat_server::Server;
use stonechat_server::clock::now_ms;

use crate::Outcome;
use crate::config::SettingsArgs;
use crate::output::Output;

/// Collect, store, show and raise alarms: broker, database and dashboard in one program.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat serve --data /var/lib/stonechat

Each setting comes from the first of these that names it: the flag; the environment variable
STONECHAT_DATA, STONECHAT_HTTP or STONECHAT_MQTT; ./stonechat.toml; ~/.config/stonechat/config.toml;
the default. `stonechat config show` prints where each comes from, `stonechat config template` the
defaults.")]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    url: String,
    /// Where the first account is made, once; only while there is none.
    set_up_url: Option<String>,
    mqtt: String,
    mqtts: Option<String>,
    /// Where old packets are taken in.
    legacy: Option<String>,
    sealed: Option<String>,
    data: String,
}

impl Started {
    fn text(&self) -> String {
        let set_up = self.set_up_url.as_ref().map(|link| {
            format!(
                "{link}\n            (makes the first account; holds for a day and for one use)"
            )
        });
        let legacy = self.legacy.as_ref().map(|address| format!("{address} (unauthenticated)"));
        let lines = [
            ("dashboard", Some(self.url.clone())),
            ("set-up", set_up),
            ("MQTT", Some(self.mqtt.clone())),
            ("MQTT/TLS", self.mqtts.clone()),
            ("sealed", self.sealed.clone()),
            ("old packets", legacy),
            ("data", Some(self.data.clone())),
        ];
        let lines = lines.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let text: String = lines.map(|(name, value)| format!("{name:<12}{value}\n")).collect();
        text + "Stop with Ctrl-C."
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let settings = self.settings.settings()?;
        let data = settings.data.display().to_string();
        runtime()?.block_on(async {
            let running = Server::start(settings).await?;
            let url = format!("http://{}", running.http_addr);
            let link = running.access().offer_set_up(now_ms()).await?;
            let started = Started {
                event: "started",
                set_up_url: link.map(|link| format!("{url}/set-up#{}", link.reveal())),
                url,
                mqtt: running.mqtt_addr.to_string(),
                mqtts: running.mqtts_addr.map(|address| address.to_string()),
                legacy: running.legacy_addr.map(|address| address.to_string()),
                sealed: running.sealed_addr.map(|address| address.to_string()),
                data,
            };
            output.result(&started, || started.text());
            ended().await;
            running.shutdown().await;
            Ok(Outcome::Done)
        })
    }
}

/// Makes the runtime of commands that serve or connect.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn ended() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
