//! Copies, merged databases, removed runs.

use super::*;

fn finished(store: &Store, seed: u64) {
    let mut recorder = store.begin(&NewRun { seed, ..new_run() }).unwrap();
    recorder.phase_started(Phase::Search).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, seed as f64)]).unwrap();
    recorder.architecture(&searched()).unwrap();
    recorder.phase_finished(Phase::Search, PhaseUsage::default()).unwrap();
    let weights_sha256 = "c".repeat(64);
    let result = FinalResult { test_top1: 0.5, test_loss: 1.0, test_images: 10, weights_sha256 };
    recorder.finish(&result).unwrap();
}

fn losses(store: &Store) -> Vec<f64> {
    let runs = store.runs().unwrap().rows;
    runs.iter().map(|run| store.measurements(run.id).unwrap()[0].value).collect()
}

#[test]
fn a_backup_is_the_database_while_runs_are_recorded() {
    let (folder, path) = folder();
    let store = Store::open(&path).unwrap();
    finished(&store, 1);
    let running = store.begin(&new_run()).unwrap();
    let copy = folder.path().join("copy.db");
    store.backup(&copy, Kept::All).unwrap();
    drop(running);
    let copied = Store::open(&copy).unwrap();
    assert_eq!(copied.run(1).unwrap(), store.run(1).unwrap());
    assert_eq!(copied.problems().unwrap(), Vec::<String>::new());
    assert_eq!(store.backup(&copy, Kept::All).unwrap_err(), StoreError::Exists(copy));
}

#[test]
fn a_backup_without_steps_has_everything_else() {
    let (folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run()).unwrap();
    let (mean, step) = (Metric::TRAIN_LOSS, Metric::TRAIN_STEP_LOSS);
    let values = [mean, step, mean.of_repeat(1), step.of_repeat(1)].map(|metric| (metric, 0.5));
    recorder.measure(0, &values).unwrap();
    drop(recorder);
    let copy = folder.path().join("copy.db");
    store.backup(&copy, Kept::WithoutSteps).unwrap();
    let copied = Store::open(&copy).unwrap();
    let metrics = |store: &Store| -> Vec<Metric> {
        store.measurements(1).unwrap().iter().map(|measurement| measurement.metric).collect()
    };
    assert_eq!(metrics(&copied), [mean.of_repeat(1), mean]);
    assert_eq!(metrics(&store).len(), 4);
    assert_eq!(copied.run(1).unwrap(), store.run(1).unwrap());
    assert_eq!(copied.problems().unwrap(), Vec::<String>::new());
}

#[test]
fn merged_runs_get_new_numbers_and_are_never_doubled() {
    let (folder, path) = folder();
    let other_path = folder.path().join("other.db");
    let (store, other) = (Store::open(&path).unwrap(), Store::open(&other_path).unwrap());
    finished(&store, 1);
    (2..4).for_each(|seed| finished(&other, seed));
    let running = other.begin(&new_run()).unwrap();
    let merge = |copy: &str| store.merge(&other_path, &folder.path().join(copy)).unwrap().0;
    let expected = [
        Merged::Added { there: 1, here: 2 },
        Merged::Added { there: 2, here: 3 },
        Merged::Running { there: 3 },
    ];
    assert_eq!(merge("copy-1"), expected);
    drop(running);
    assert_eq!(losses(&store), [1.0, 2.0, 3.0]);
    for (here, there) in [(2, 1), (3, 2)] {
        let (here, there) = (store.run(here).unwrap(), other.run(there).unwrap());
        assert_eq!(RunRow { id: there.id, ..here }, there);
    }
    let expected = [
        Merged::Known { there: 1, here: 2 },
        Merged::Known { there: 2, here: 3 },
        Merged::Added { there: 3, here: 4 },
    ];
    assert_eq!(merge("copy-2"), expected);
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());
    assert_eq!(value::<i64>(&path, "SELECT count(*) FROM environments"), 1);
}

#[test]
fn a_merged_run_is_updated_when_it_was_continued_elsewhere() {
    let (folder, path) = folder();
    let other_path = folder.path().join("other.db");
    let other = Store::open(&other_path).unwrap();
    let mut recorder = other.begin(&new_run()).unwrap();
    recorder.phase_started(Phase::Search).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 3.0)]).unwrap();
    recorder.interrupt().unwrap();
    let store = Store::open(&path).unwrap();
    finished(&store, 9);
    let merge = |copy: &str| store.merge(&other_path, &folder.path().join(copy)).unwrap().0;
    assert_eq!(merge("copy-1"), [Merged::Added { there: 1, here: 2 }]);

    let Acquired::Ours(key) = other.acquire_run(1, &new_run()).unwrap() else { panic!() };
    let mut recorder = other.record(key, None).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 4.0)]).unwrap();
    recorder.finish_untested().unwrap();
    assert_eq!(merge("copy-2"), [Merged::Updated { there: 1, here: 2 }]);
    assert_eq!(losses(&store), [9.0, 4.0]);
    let (here, there) = (store.run(2).unwrap(), other.run(1).unwrap());
    assert_eq!(RunRow { id: 1, ..here }, there);
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());

    // What is finished here stays.
    assert_eq!(merge("copy-3"), [Merged::Known { there: 1, here: 2 }]);
}

#[test]
fn architectures_with_other_costs_are_not_merged() {
    let (folder, path) = folder();
    let other_path = folder.path().join("other.db");
    let (store, other) = (Store::open(&path).unwrap(), Store::open(&other_path).unwrap());
    finished(&store, 1);
    finished(&other, 2);
    sql(&other_path, "UPDATE architectures SET macs = 11");
    let error = store.merge(&other_path, &folder.path().join("copy")).unwrap_err();
    assert!(matches!(error, StoreError::ArchitectureDiffers { .. }), "{error}");
    assert_eq!(losses(&store), [1.0]);
}

#[test]
fn a_removed_run_leaves_nothing_and_its_number_is_not_given_again() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    (1..3).for_each(|seed| finished(&store, seed));
    let running = store.begin(&new_run()).unwrap();
    assert_eq!(store.remove(&[2, 3]).unwrap_err(), StoreError::StillRunning { id: 3 });
    assert_eq!(store.runs().unwrap().rows.len(), 3);
    drop(running);
    store.remove(&[2, 3]).unwrap();
    assert!(store.remove(&[2]).is_err());
    finished(&store, 4);
    let ids: Vec<i64> = store.runs().unwrap().rows.iter().map(|run| run.id).collect();
    assert_eq!(ids, [1, 4]);
    store.remove(&[1, 4]).unwrap();
    for table in store.tables().unwrap() {
        assert_eq!(table.rows, Vec::<Vec<Cell>>::new(), "{}", table.name);
    }
}
