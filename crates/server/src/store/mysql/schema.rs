//! The tables, in plain SQL that MariaDB 10.6 and MySQL 8.0 both take.
//!
//! Texts are utf8mb4 and compared by their bytes; times are unix milliseconds, so that no time
//! zone is in play.

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tracing::{info, warn};

use super::Failure;

/// The steps to the newest schema; a released one is never changed. The database commits each
/// statement by itself, so that a step cut short is taken anew: each statement allows for that.
const MIGRATIONS: [&[&str]; 1] = [&[
    "CREATE TABLE IF NOT EXISTS device (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        created_ms BIGINT NOT NULL,
        UNIQUE KEY device_by_name (name)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    // What is known of a device beside its readings. Who writes for a device locks its row first;
    // the revision tells other gateways that what they remember is old. The body is in `state.rs`.
    "CREATE TABLE IF NOT EXISTS device_state (
        device INT UNSIGNED NOT NULL PRIMARY KEY,
        revision BIGINT UNSIGNED NOT NULL,
        living BOOLEAN NOT NULL,
        messages BIGINT UNSIGNED NOT NULL,
        readings BIGINT UNSIGNED NOT NULL,
        duplicates BIGINT UNSIGNED NOT NULL,
        last_seen_ms BIGINT NULL,
        body MEDIUMBLOB NOT NULL
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS channel (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        device INT UNSIGNED NOT NULL,
        name VARCHAR(128) NOT NULL,
        unit VARCHAR(32) NOT NULL,
        UNIQUE KEY channel_by_name (device, name)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    // The ordinal counts the readings of the device, so that several of one channel may have the
    // same time, and stay in the order in which they came.
    "CREATE TABLE IF NOT EXISTS reading (
        channel INT UNSIGNED NOT NULL,
        time_ms BIGINT NOT NULL,
        ordinal INT UNSIGNED NOT NULL,
        value DOUBLE NOT NULL,
        PRIMARY KEY (channel, time_ms, ordinal)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    // What is left of readings that are older than is kept.
    "CREATE TABLE IF NOT EXISTS reading_summary (
        channel INT UNSIGNED NOT NULL,
        width_ms INT UNSIGNED NOT NULL,
        start_ms BIGINT NOT NULL,
        readings BIGINT UNSIGNED NOT NULL,
        minimum_ms BIGINT NOT NULL,
        minimum DOUBLE NOT NULL,
        maximum_ms BIGINT NOT NULL,
        maximum DOUBLE NOT NULL,
        last_ms BIGINT NOT NULL,
        last DOUBLE NOT NULL,
        total DOUBLE NOT NULL,
        PRIMARY KEY (channel, width_ms, start_ms)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS message_digest (
        device INT UNSIGNED NOT NULL,
        digest BINARY(16) NOT NULL,
        number BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (device, digest),
        KEY digest_by_number (device, number)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS alarm (
        id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        device INT UNSIGNED NOT NULL,
        kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        active BOOLEAN NOT NULL,
        opened_ms BIGINT NOT NULL,
        acknowledged_ms BIGINT NULL,
        cleared_ms BIGINT NULL,
        note TEXT NULL,
        score DOUBLE NULL,
        threshold DOUBLE NULL,
        peak_score DOUBLE NULL,
        KEY alarm_by_device (device, state),
        KEY alarm_by_state (state)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS record (
        class VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        name VARBINARY(255) NOT NULL,
        revision BIGINT UNSIGNED NOT NULL,
        changed_ms BIGINT NOT NULL,
        body MEDIUMTEXT NULL,
        PRIMARY KEY (class, name),
        KEY record_by_revision (revision)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS counter (
        name VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        value BIGINT UNSIGNED NOT NULL
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "INSERT IGNORE INTO counter (name, value) VALUES ('record_revision', 0)",
    // Which channels the old readers see, and as which type of value.
    "CREATE TABLE IF NOT EXISTS value_type (
        channel VARCHAR(128) NOT NULL PRIMARY KEY,
        id INT NOT NULL,
        sensor_min DECIMAL(10,4) NULL,
        sensor_max DECIMAL(10,4) NULL,
        resolution DECIMAL(10,4) NULL
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "INSERT IGNORE INTO value_type (channel, id, sensor_min, sensor_max, resolution) VALUES
        ('air_temperature', 1, -40, 125, 0.1),
        ('dissolved_oxygen', 2, 0, 60, 0.01),
        ('water_temperature', 3, 0, 100, 0.1),
        ('unauthenticated/air_temperature', 1, -40, 125, 0.1),
        ('unauthenticated/dissolved_oxygen', 2, 0, 60, 0.01),
        ('unauthenticated/water_temperature', 3, 0, 100, 0.1)",
]];

/// The tables of the old database `livecon_db` that existing programs read, as views.
const VIEWS: [(&str, &str); 2] = [
    (
        "sensor_info",
        "CREATE OR REPLACE VIEW sensor_info AS SELECT
            channel.id AS sensor_id,
            COALESCE(NULLIF(JSON_UNQUOTE(JSON_EXTRACT(record.body, '$.number')), 'null'),
                device.name) AS device_id,
            value_type.id AS sensor_type_id,
            channel.name AS sensor_name,
            CAST(NULL AS DECIMAL(10,4)) AS alarm_min,
            CAST(NULL AS DECIMAL(10,4)) AS alarm_max,
            value_type.sensor_min AS sensor_min,
            value_type.sensor_max AS sensor_max,
            value_type.resolution AS resolution,
            DATE_ADD(TIMESTAMP('1970-01-01'), INTERVAL device.created_ms DIV 1000 SECOND)
                AS registered_at
        FROM value_type
        JOIN channel ON channel.name = value_type.channel
        JOIN device ON device.id = channel.device
        LEFT JOIN record ON record.class = 'device' AND record.name = CAST(device.name AS BINARY)",
    ),
    (
        "sensor_result",
        "CREATE OR REPLACE VIEW sensor_result AS SELECT
            CAST(CONCAT(LPAD(HEX(reading.channel), 8, '0'), LPAD(HEX(reading.ordinal), 8, '0'))
                AS CHAR(20)) AS result_id,
            COALESCE(NULLIF(JSON_UNQUOTE(JSON_EXTRACT(record.body, '$.number')), 'null'),
                device.name) AS device_id,
            channel.id AS sensor_id,
            value_type.id AS value_type_id,
            CAST(reading.value AS DECIMAL(10,4)) AS sensor_value,
            CAST(EXISTS(SELECT 1 FROM alarm WHERE alarm.device = channel.device
                AND alarm.kind = 'anomaly' AND alarm.opened_ms <= reading.time_ms
                AND COALESCE(alarm.cleared_ms, reading.time_ms) >= reading.time_ms) AS SIGNED)
                AS alarm_state,
            CAST(EXISTS(SELECT 1 FROM alarm WHERE alarm.device = channel.device
                AND alarm.kind = 'sensor_fault' AND alarm.opened_ms <= reading.time_ms
                AND COALESCE(alarm.cleared_ms, reading.time_ms) >= reading.time_ms) AS SIGNED)
                AS error_state,
            CAST(CONCAT(
                CAST((SELECT place.value FROM reading AS place
                    WHERE place.channel = latitude.id AND place.time_ms = reading.time_ms
                    ORDER BY place.ordinal DESC LIMIT 1) AS DECIMAL(10,6)), ',',
                CAST((SELECT place.value FROM reading AS place
                    WHERE place.channel = longitude.id AND place.time_ms = reading.time_ms
                    ORDER BY place.ordinal DESC LIMIT 1) AS DECIMAL(10,6))) AS CHAR(100))
                AS location,
            DATE_ADD(TIMESTAMP('1970-01-01'), INTERVAL reading.time_ms DIV 1000 SECOND)
                AS measured_at
        FROM value_type
        JOIN channel ON channel.name = value_type.channel
        JOIN device ON device.id = channel.device
        LEFT JOIN record ON record.class = 'device' AND record.name = CAST(device.name AS BINARY)
        LEFT JOIN channel AS latitude ON latitude.device = channel.device
            AND latitude.name = CONCAT(LEFT(channel.name, CHAR_LENGTH(channel.name)
                - CHAR_LENGTH(SUBSTRING_INDEX(channel.name, '/', -1))), 'latitude')
        LEFT JOIN channel AS longitude ON longitude.device = channel.device
            AND longitude.name = CONCAT(LEFT(channel.name, CHAR_LENGTH(channel.name)
                - CHAR_LENGTH(SUBSTRING_INDEX(channel.name, '/', -1))), 'longitude')
        JOIN reading ON reading.channel = channel.id",
    ),
];

/// How long another gateway may take to bring the schema up to date.
const MIGRATION_PATIENCE_S: u32 = 60;

/// Brings the schema up to date, one gateway at a time.
pub(super) async fn migrate(connection: &mut MySqlConnection) -> Result<(), Failure> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT('stonechat/', LEFT(DATABASE(), 40)), ?)")
            .bind(MIGRATION_PATIENCE_S)
            .fetch_one(&mut *connection)
            .await?;
    if taken != Some(1) {
        return Err(Failure::Busy);
    }
    let migrated = steps(connection).await;
    let released = sqlx::query("DO RELEASE_LOCK(CONCAT('stonechat/', LEFT(DATABASE(), 40)))")
        .execute(&mut *connection)
        .await;
    migrated?;
    released?;
    durable(connection).await
}

async fn steps(connection: &mut MySqlConnection) -> Result<(), Failure> {
    let known = MIGRATIONS.len() as i64;
    execute(
        connection,
        "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)
            ENGINE=InnoDB",
    )
    .await?;
    let found: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM schema_version")
        .fetch_one(&mut *connection)
        .await?;
    let found = found.unwrap_or(0);
    if found > known || found < 0 {
        return Err(Failure::NewerSchema { found, known });
    }
    for (version, step) in (1_i64..).zip(MIGRATIONS).skip(found as usize) {
        for statement in step {
            execute(connection, statement).await?;
        }
        sqlx::query("INSERT INTO schema_version (version) VALUES (?)")
            .bind(version)
            .execute(&mut *connection)
            .await?;
        info!(version, "brought the schema of the database up to date");
    }
    for (name, statement) in VIEWS {
        let table: Option<String> = sqlx::query_scalar(
            "SELECT CAST(table_type AS CHAR) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
        match table.as_deref() {
            None => execute(connection, statement).await?,
            Some("VIEW") if found < known => execute(connection, statement).await?,
            Some("VIEW") => {}
            Some(_) => warn!(
                name,
                "the database has a table of this name, so that old readers see that one and not \
                 what arrives here; rename it, and start again"
            ),
        }
    }
    Ok(())
}

/// Says so when the database does not write each commit to its disk.
async fn durable(connection: &mut MySqlConnection) -> Result<(), Failure> {
    let row = sqlx::query("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit AS flush")
        .fetch_optional(&mut *connection)
        .await;
    if let Ok(Some(row)) = row
        && row.try_get::<i64, _>(0).is_ok_and(|flush| flush != 1)
    {
        warn!(
            "the database does not sync each commit to its disk: acknowledged messages may be lost \
             when its power is cut; set innodb_flush_log_at_trx_commit=1"
        );
    }
    connection.ping().await?;
    Ok(())
}

/// Executes a statement that cannot be prepared.
async fn execute(connection: &mut MySqlConnection, statement: &'static str) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
