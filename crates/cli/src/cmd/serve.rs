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
    data: String,
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
                data,
            };
            output.result(&started, || {
                let mqtts = started.mqtts.iter().map(|address| {
                    format!(
                        "MQTT/TLS    {address}
"
                    )
                });
                let legacy = started
                    .legacy
                    .iter()
                    .map(|address| format!("old packets {address} (unauthenticated)\n"));
                let set_up = started.set_up_url.iter().map(|link| {
                    format!(
                        "set-up      {link}
            (makes the first account; holds for a day and for one use)
"
                    )
                });
                format!(
                    "dashboard   {}
{}MQTT        {}
{}{}data        {}
Stop with Ctrl-C.",
                    started.url,
                    set_up.collect::<String>(),
                    started.mqtt,
                    mqtts.collect::<String>(),
                    legacy.collect::<String>(),
                    started.data
                )
            });
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
