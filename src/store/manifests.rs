//! The statements that store manifests and their settings.

use super::error::Fault;
use super::numbers::finite;
use super::rows::ManifestRecord;
use super::settings::{Settings, json};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_as};

/// Stores a manifest with its settings, unless it is there.
pub async fn add(
    connection: &mut SqliteConnection,
    manifest: &ManifestRecord,
) -> Result<(), Fault> {
    let added = query(
        "INSERT INTO manifests (sha256, name, text, space_name, space_text, space_candidates,
                                space_log10)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (sha256) DO NOTHING",
    )
    .bind(&manifest.sha256)
    .bind(&manifest.name)
    .bind(&manifest.text)
    .bind(&manifest.space_name)
    .bind(&manifest.space_text)
    .bind(&manifest.space_candidates)
    .bind(finite("the logarithm of the space's size", manifest.space_log10)?)
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() > 0 {
        let settings = Settings::of(&manifest.text, &manifest.space_text);
        write_settings(connection, &manifest.sha256, &settings).await?;
    }
    Ok(())
}

/// Writes the settings of a manifest that is in the database already.
async fn write_settings(
    connection: &mut SqliteConnection,
    manifest_sha256: &str,
    settings: &Settings,
) -> Result<(), Fault> {
    let budget = settings.budget.as_ref();
    query(
        "UPDATE manifests
         SET kind = ?2, budget_objective = ?3, budget_bound = ?4, budget_tolerance = ?5,
             budget_above = ?6, settings = ?7, settings_sha256 = ?8
         WHERE sha256 = ?1",
    )
    .bind(manifest_sha256)
    .bind(settings.kind.name())
    .bind(budget.map(|budget| budget.objective.clone()))
    .bind(budget.map(|budget| budget.bound))
    .bind(budget.map(|budget| budget.tolerance))
    .bind(budget.map(|budget| budget.above))
    .bind(json(&settings.values))
    .bind(&settings.sha256)
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores the settings of all manifests of versions that did not. Text that is not TOML has no settings,
/// but a kind and a hash; a budget that cannot be valid is left out.
pub async fn fill_settings(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let manifests: Vec<(String, String, String)> =
        query_as("SELECT sha256, text, space_text FROM manifests WHERE kind IS NULL")
            .fetch_all(&mut *connection)
            .await?;
    for (sha256, text, space_text) in manifests {
        write_settings(connection, &sha256, &Settings::of(&text, &space_text)).await?;
    }
    Ok(())
}
