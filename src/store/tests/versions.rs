//! A database of every earlier migration is brought up to date, keeps all its rows, and leaves a copy of what it
//! was. `tests/it/fixtures/databases/make.py` writes the file that a new migration needs.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The statements that make the database as it was at each migration, by its number.
fn fixtures() -> BTreeMap<i64, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/databases");
    let number = |path: &PathBuf| -> Option<i64> {
        path.file_name()?.to_str()?.strip_prefix("migration-")?.strip_suffix(".sql")?.parse().ok()
    };
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter_map(|path| Some((number(&path)?, fs::read_to_string(path).unwrap()))).collect()
}

/// The first column of a query, as text.
fn column(path: &Path, sql: &str) -> Vec<String> {
    let mut transactor = Transactor::new(Database::at(path).unwrap()).unwrap();
    let read = async |connection: &mut SqliteConnection| {
        Ok(query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await?)
    };
    transactor.read(read).unwrap()
}

/// The rows of all tables, sorted, each with every value as SQL writes it, and the columns of each table.
#[derive(Debug, PartialEq)]
struct Rows(BTreeMap<String, (Vec<String>, Vec<String>)>);

impl Rows {
    /// In all columns that there are.
    fn of(path: &Path) -> Self {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB '_sqlx*' \
                      AND name NOT GLOB 'sqlite*'";
        let columns = |table: &String| {
            column(path, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"))
        };
        let tables = column(path, tables).into_iter();
        let tables = tables.map(|table| (table.clone(), columns(&table)));
        Self::in_columns(path, tables.collect())
    }

    fn in_columns(path: &Path, columns: BTreeMap<String, Vec<String>>) -> Self {
        let rows = |table: &str, columns: &[String]| {
            let quoted: Vec<String> =
                columns.iter().map(|name| format!("quote(\"{name}\")")).collect();
            column(path, &format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ',' || ")))
        };
        let tables = columns.into_iter().map(|(table, columns)| {
            let rows = rows(&table, &columns);
            (table, (columns, rows))
        });
        Self(tables.collect())
    }

    /// The same columns of another database.
    fn again(&self, path: &Path) -> Self {
        let columns = self.0.iter().map(|(table, (columns, _))| (table.clone(), columns.clone()));
        Self::in_columns(path, columns.collect())
    }
}

const APPLIED: &str = "SELECT CAST(max(version) AS TEXT) FROM _sqlx_migrations";

#[test]
fn a_database_of_every_migration_keeps_its_rows() {
    let fixtures = fixtures();
    let (_newest, path) = folder();
    Store::open(&path).unwrap();
    let newest: i64 = column(&path, APPLIED)[0].parse().unwrap();
    let numbers: Vec<i64> = fixtures.keys().copied().collect();
    let expected: Vec<i64> = (1..=newest).collect();
    assert_eq!(numbers, expected, "run tests/it/fixtures/databases/make.py after a new migration");
    for (number, statements) in &fixtures {
        let (_folder, path) = folder();
        sql(&path, statements);
        let before = Rows::of(&path);
        let number_of = |table: &str| before.0[table].1.len();
        assert!(before.0.values().all(|(_, rows)| !rows.is_empty()), "{number}");

        let store = Store::open(&path).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(column(&path, APPLIED), [newest.to_string()]);
        assert_eq!(store.problems().unwrap(), Vec::<String>::new(), "{number}");
        assert_eq!(before.again(&path), before, "{number}");

        let mut backup = path.clone().into_os_string();
        backup.push(format!(".before-migration-{newest}"));
        let backup = PathBuf::from(backup);
        assert_eq!(backup.exists(), *number < newest, "{number}");
        if backup.exists() {
            assert_eq!(Rows::of(&backup), before, "{number}");
            assert_eq!(column(&backup, APPLIED), [number.to_string()]);
            assert_eq!(column(&backup, "PRAGMA integrity_check"), ["ok"]);
        }

        // The program reads them all.
        let runs = store.runs().unwrap();
        assert_eq!((runs.rows.len(), runs.damaged), (number_of("runs"), Vec::new()), "{number}");
        let attempts = runs.rows.iter().map(|run| store.attempts(run.id).unwrap().len());
        assert_eq!(attempts.sum::<usize>(), number_of("attempts"), "{number}");
        let results = runs.rows.iter().filter(|run| run.result.is_some()).count();
        assert_eq!(results, number_of("results"), "{number}");
        let points = runs.rows.iter().map(|run| store.scaling_points(run.id).unwrap().len());
        assert_eq!(
            points.sum::<usize>(),
            if *number < 4 { 0 } else { number_of("scaling_points") }
        );
        let loss = |step| {
            let all = store.measurements(1).unwrap();
            all.iter().find(|m| m.metric == Metric::SEARCH_LOSS && m.step == step).unwrap().value
        };
        assert_eq!((loss(i64::MAX as u64), loss((1 << 53) + 1)), (-5e-324, 1e300), "{number}");
        // And writes to it.
        let mut recorder = store.begin(&new_run()).unwrap();
        recorder.measure(0, &[(Metric::SEARCH_LOSS, 0.5)]).unwrap();
        recorder.interrupt().unwrap();
        assert_eq!(store.problems().unwrap(), Vec::<String>::new(), "{number}");
    }
}
