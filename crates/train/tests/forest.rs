//! Forests: beside scikit-learn's own trees, and what every fit must hold.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use stonechat_core::detector::{EngineKind, RandomForest};
use stonechat_train::evaluate::roc_auc;
use stonechat_train::fit::isolation_forest::{
    IsolationForestModel, IsolationForestOptions, fit_isolation_forest,
};
use stonechat_train::fit::random_forest::{
    ClassWeights, RandomForestModel, RandomForestOptions, fit_classes,
};
use stonechat_train::fit::tree::{ForestError, Node, Tree, threshold_at_most};
use stonechat_train::fit::{Fit, FitError, TrainingData};
use stonechat_train::random::Random;
use stonechat_train::rows::Rows;

/// A forest of scikit-learn, its rows and what it made of them; see testdata/make/forest.py.
#[derive(Deserialize)]
struct Case {
    name: String,
    width: usize,
    class_count: Option<usize>,
    rows_per_tree: Option<usize>,
    trees: Vec<Arrays>,
    rows: Vec<Vec<f32>>,
    classes: Option<Vec<u8>>,
    shares: Option<Vec<Vec<f64>>>,
    scores: Option<Vec<f64>>,
}

/// A tree as scikit-learn holds it.
#[derive(Deserialize)]
struct Arrays {
    left: Vec<i64>,
    right: Vec<i64>,
    feature: Vec<i64>,
    threshold: Vec<f64>,
    values: Vec<Vec<f64>>,
    rows: Vec<usize>,
}

impl Arrays {
    fn tree(&self) -> Tree {
        let mut leaves = 0;
        let nodes = (0..self.left.len()).map(|index| {
            if self.left[index] < 0 {
                leaves += 1;
                return Node::leaf(leaves - 1);
            }
            Node {
                feature: self.feature[index] as u32,
                threshold: threshold_at_most(self.threshold[index]),
                left: self.left[index] as u32,
                right: self.right[index] as u32,
            }
        });
        Tree { nodes: nodes.collect(), values: self.values.concat() }
    }

    /// The values of an isolation tree's leaves: the depth, and c(n) of the paper.
    fn depths(&self) -> Vec<f64> {
        let mut depth = vec![0.0; self.left.len()];
        let mut depths = Vec::new();
        for index in 0..self.left.len() {
            if self.left[index] < 0 {
                let n = self.rows[depths.len()] as f64;
                let rest = match self.rows[depths.len()] {
                    1 => 0.0,
                    2 => 1.0,
                    _ => 2.0 * ((n - 1.0).ln() + 0.577_215_664_901_532_9) - 2.0 * (n - 1.0) / n,
                };
                depths.push(depth[index] + rest);
                continue;
            }
            for child in [self.left[index], self.right[index]] {
                depth[child as usize] = depth[index] + 1.0;
            }
        }
        depths
    }
}

fn cases(path: &Path) -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn golden() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/forest.json");
    cases(Path::new(path))
}

fn import(case: &Case) -> RandomForestModel {
    let trees = case.trees.iter().map(Arrays::tree).collect();
    RandomForestModel::new(case.width, case.class_count.unwrap(), trees).unwrap()
}

/// Returns how many rows were compared.
fn compare_with_scikit_learn(case: &Case) -> usize {
    let model = import(case);
    let values = case.rows.concat();
    let rows = Rows::new(&values, case.width).unwrap();
    assert_eq!(model.classify(rows, 2).unwrap(), *case.classes.as_ref().unwrap(), "{}", case.name);
    let shares = case.shares.as_ref().unwrap().concat();
    for (ours, theirs) in model.shares(rows, 1).unwrap().iter().zip(&shares) {
        assert!((f64::from(*ours) - theirs).abs() < 1e-6, "{}: {ours} {theirs}", case.name);
    }
    let normal = case.shares.as_ref().unwrap().iter().map(|shares| shares[0]);
    for (score, normal) in model.score(rows, 1).unwrap().iter().zip(normal) {
        assert!((f64::from(*score) - (1.0 - normal)).abs() < 1e-6, "{}", case.name);
    }
    case.rows.len()
}

#[test]
fn imported_random_forests_classify_every_row_as_scikit_learn() {
    let cases = golden();
    let forests = cases.iter().filter(|case| case.classes.is_some());
    let compared: usize = forests.map(compare_with_scikit_learn).sum();
    assert!(compared > 400, "{compared}");
}

#[test]
#[ignore = "needs the oracle Python environment: cargo xtask test --only oracles"]
fn large_forests_classify_every_row_as_scikit_learn() {
    let python = std::env::var_os("STONECHAT_PYTHON").expect("STONECHAT_PYTHON is set");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forest_large.json");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/make/forest.py");
    let status = Command::new(python).arg(script).arg("--large").arg(&path).status().unwrap();
    assert!(status.success());
    let compared: usize = cases(&path).iter().map(compare_with_scikit_learn).sum();
    assert!(compared > 100_000, "{compared}");
}

#[test]
fn an_imported_isolation_forest_scores_as_scikit_learn() {
    let mut compared = 0;
    for case in golden().iter().filter(|case| case.scores.is_some()) {
        let trees =
            case.trees.iter().map(|arrays| Tree { values: arrays.depths(), ..arrays.tree() });
        let trees = trees.collect();
        let model =
            IsolationForestModel::new(case.width, case.rows_per_tree.unwrap(), trees).unwrap();
        let values = case.rows.concat();
        let scores = model.score(Rows::new(&values, case.width).unwrap(), 2).unwrap();
        for (ours, theirs) in scores.iter().zip(case.scores.as_ref().unwrap()) {
            assert!((f64::from(*ours) - theirs).abs() < 2e-6, "{}: {ours} {theirs}", case.name);
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

/// Two classes by the sign of a product, with a tenth of the labels turned over.
fn labelled(count: usize, seed: u64) -> (Vec<f32>, Vec<u8>) {
    let mut random = Random::new(seed);
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let row = [(); 6].map(|()| random.normal());
        let turned = random.uniform() < 0.1;
        classes.push(u8::from((row[0] * row[1] + row[2] > 0.5) != turned));
        values.extend(row.map(|x| x as f32));
    }
    (values, classes)
}

/// A walk over the tree as its definition has it.
fn leaf<'t>(tree: &'t Tree, row: &[f32], value_len: usize) -> &'t [f64] {
    let mut node = &tree.nodes[0];
    while !node.is_leaf() {
        let goes_left = row[node.feature as usize] <= node.threshold;
        node = &tree.nodes[if goes_left { node.left } else { node.right } as usize];
    }
    &tree.values[node.left as usize * value_len..][..value_len]
}

#[test]
fn the_core_votes_as_the_trees_do() {
    for (max_depth, trees) in [(None, 40), (Some(4), 7), (Some(1), 3)] {
        let (values, classes) = labelled(3_000, 1);
        let rows = Rows::new(&values, 6).unwrap();
        let options = RandomForestOptions { trees, max_depth, ..RandomForestOptions::default() };
        let model = fit_classes(rows, &classes, &options, 2).unwrap();
        let (values, _) = labelled(500, 2);
        let rows = Rows::new(&values, 6).unwrap();
        let scores = model.score(rows, 1).unwrap();
        for (row, score) in rows.iter().zip(&scores) {
            let votes: f64 = model.trees().iter().map(|tree| leaf(tree, row, 2)[1]).sum();
            assert!((votes / trees as f64 - f64::from(*score)).abs() < 1e-6);
        }
    }
}

#[test]
fn a_forest_learns_and_is_the_same_on_any_number_of_threads() {
    let (values, classes) = labelled(4_000, 1);
    let rows = Rows::new(&values, 6).unwrap();
    let options = RandomForestOptions { trees: 30, ..RandomForestOptions::default() };
    let model = fit_classes(rows, &classes, &options, 1).unwrap();
    assert_eq!(model, fit_classes(rows, &classes, &options, 3).unwrap());
    let other = RandomForestOptions { seed: 2, ..options };
    assert_ne!(model, fit_classes(rows, &classes, &other, 3).unwrap());

    let (values, classes) = labelled(2_000, 2);
    let scores = model.score(Rows::new(&values, 6).unwrap(), 2).unwrap();
    let labels: Vec<bool> = classes.iter().map(|class| *class == 1).collect();
    // A tenth of the labels are turned over: no ranking reaches more than about 0.9.
    let auc = roc_auc(&scores, &labels).unwrap();
    assert!(auc > 0.84, "{auc}");
}

#[test]
fn without_a_bound_every_drawn_row_is_learned() {
    let (values, classes) = labelled(200, 1);
    let rows = Rows::new(&values, 6).unwrap();
    let options =
        RandomForestOptions { trees: 60, max_depth: None, ..RandomForestOptions::default() };
    let model = fit_classes(rows, &classes, &options, 2).unwrap();
    // Two of three trees drew a row and know its class, whatever the others say.
    assert_eq!(model.classify(rows, 2).unwrap(), classes);
    let pure = |share: &f64| *share == 0.0 || *share == 1.0;
    assert!(model.trees().iter().flat_map(|tree| &tree.values).all(pure));
}

#[test]
fn options_bound_the_trees() {
    let (values, classes) = labelled(2_000, 1);
    let rows = Rows::new(&values, 6).unwrap();
    let options = RandomForestOptions {
        trees: 5,
        max_depth: Some(3),
        min_rows_in_leaf: 50,
        ..RandomForestOptions::default()
    };
    let model = fit_classes(rows, &classes, &options, 2).unwrap();
    for tree in model.trees() {
        assert!(tree.nodes.len() > 3 && tree.nodes.len() <= 15);
        let mut reached = vec![0; tree.values.len() / 2];
        for row in rows.iter() {
            let found = leaf(tree, row, 2);
            let at = tree.values.chunks(2).position(|leaf| core::ptr::eq(leaf, found)).unwrap();
            reached[at] += 1;
        }
        // The rows of the table, not those drawn: about as many.
        assert!(reached.iter().all(|rows| *rows > 25), "{reached:?}");
    }
}

#[test]
fn several_classes_and_rare_ones_are_told_apart() {
    let mut random = Random::new(4);
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for index in 0..3_000 {
        // Class 0 is common, the other four are at corners.
        let class = if index % 40 == 0 { 1 + (index / 40) % 4 } else { 0 };
        let centre = [(0.0, 0.0), (2.0, 2.0), (2.0, -2.0), (-2.0, 2.0), (-2.0, -2.0)][class];
        let noise = || 0.5;
        values.push((centre.0 + noise() * random.normal()) as f32);
        values.push((centre.1 + noise() * random.normal()) as f32);
        classes.push(class as u8);
    }
    let rows = Rows::new(&values, 2).unwrap();
    for class_weights in [ClassWeights::Equal, ClassWeights::Balanced] {
        let options = RandomForestOptions {
            trees: 25,
            max_depth: Some(6),
            class_weights,
            ..RandomForestOptions::default()
        };
        let model = fit_classes(rows, &classes, &options, 2).unwrap();
        assert_eq!(model.class_count(), 5);
        let found = model.classify(rows, 2).unwrap();
        let right = found.iter().zip(&classes).filter(|(found, class)| found == class).count();
        assert!(right > 2_950, "{class_weights:?}: {right} of 3000");
        let shares = model.shares(rows, 1).unwrap();
        assert!(shares.chunks(5).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    }
}

#[test]
fn balance_counts_a_class_as_much_as_another() {
    // One feature that tells nothing: each leaf has the shares of its rows.
    let values: Vec<f32> = vec![0.0; 400];
    let classes: Vec<u8> = (0..400).map(|index| u8::from(index % 10 == 0)).collect();
    let rows = Rows::new(&values, 1).unwrap();
    let share = |class_weights| {
        let options = RandomForestOptions { class_weights, ..RandomForestOptions::default() };
        fit_classes(rows, &classes, &options, 2).unwrap().score(rows, 1).unwrap()[0]
    };
    assert!((share(ClassWeights::Equal) - 0.1).abs() < 0.01);
    assert!((share(ClassWeights::Balanced) - 0.5).abs() < 0.02);
}

#[test]
fn an_isolation_forest_finds_what_is_apart() {
    let mut random = Random::new(3);
    let mut values = Vec::new();
    let mut labels = Vec::new();
    for index in 0..4_000 {
        let apart = index % 50 == 0;
        for _ in 0..4 {
            values.push((if apart { 4.0 } else { 1.0 } * random.normal()) as f32);
        }
        labels.push(apart);
    }
    let rows = Rows::new(&values, 4).unwrap();
    let options = IsolationForestOptions::default();
    let model = fit_isolation_forest(rows, &options, 1).unwrap();
    assert_eq!(model, fit_isolation_forest(rows, &options, 3).unwrap());
    let scores = model.score(rows, 2).unwrap();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    let auc = roc_auc(&scores, &labels).unwrap();
    assert!(auc > 0.93, "{auc}");
    // The paper's section 2: what all trees isolate at once has a score near 1, the mean is near 0.5.
    let far = model.score(Rows::new(&[1e6; 4], 4).unwrap(), 1).unwrap()[0];
    assert!(far > 0.7, "{far}");
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    assert!((0.4..0.55).contains(&mean), "{mean}");
}

#[test]
fn rows_that_are_all_the_same_make_a_forest() {
    let values = [1.5; 40];
    let rows = Rows::new(&values, 4).unwrap();
    let options = IsolationForestOptions { trees: 3, ..IsolationForestOptions::default() };
    let model = fit_isolation_forest(rows, &options, 1).unwrap();
    let scores = model.score(rows, 1).unwrap();
    // Each tree is one leaf, whose depth is c(ψ): 2 to the power -1.
    assert!(scores.iter().all(|score| (score - 0.5).abs() < 1e-4), "{scores:?}");
}

#[test]
fn one_trait_fits_both() {
    let (values, classes) = labelled(500, 1);
    let labels: Vec<bool> = classes.iter().map(|class| *class == 1).collect();
    let rows = Rows::new(&values, 6).unwrap();
    let data =
        TrainingData { rows, channels: 1, run_starts: &[0], labels: Some(&labels), threads: 2 };
    let mut progress = |_| core::ops::ControlFlow::Continue(());
    let fitted = RandomForestOptions::default().fit(&data, &mut progress).unwrap();
    assert_eq!(fitted.model.engine(), EngineKind::RandomForest);
    let data = TrainingData { labels: None, ..data };
    let fitted = IsolationForestOptions::default().fit(&data, &mut progress).unwrap();
    assert_eq!(fitted.model.engine(), EngineKind::IsolationForest);
    let error = RandomForestOptions::default().fit(&data, &mut progress).unwrap_err();
    assert_eq!(error, FitError::Forest(ForestError::NoLabels));
}

#[test]
fn what_cannot_be_learned_is_refused_with_a_remedy() {
    let (values, mut classes) = labelled(100, 1);
    let rows = Rows::new(&values, 6).unwrap();
    let options = RandomForestOptions::default();
    let refused = |classes: &[u8], options: &RandomForestOptions| {
        fit_classes(rows, classes, options, 1).unwrap_err().to_string()
    };
    let message = refused(&[0; 100], &options);
    assert!(
        message.contains("none is anomalous") && message.contains("add a recording"),
        "{message}"
    );
    let message = refused(&[1; 100], &options);
    assert!(message.contains("none is normal"), "{message}");
    let message = refused(&[0; 99], &options);
    assert!(message.contains("100 rows, but 99 labels"), "{message}");
    let message = refused(&classes, &RandomForestOptions { trees: 0, ..options.clone() });
    assert!(message.contains("trees is 0"), "{message}");
    let features = RandomForestOptions { features_per_split: Some(7), ..options.clone() };
    assert!(refused(&classes, &features).contains("features_per_split is 7"));
    classes[17] = 3;
    let message = refused(&classes, &options);
    assert!(message.contains("none is of class 2"), "{message}");
    classes[17] = 16;
    let message = refused(&classes, &options);
    assert!(message.contains("row 17 is of class 16"), "{message}");
    let one = Rows::new(&values[..6], 6).unwrap();
    let error = fit_isolation_forest(one, &IsolationForestOptions::default(), 1).unwrap_err();
    assert!(error.to_string().contains("at least 2"), "{error}");
}

#[test]
fn trees_that_do_not_hold_together_are_refused() {
    let split = Node { feature: 0, threshold: 0.5, left: 1, right: 2 };
    let tree = |nodes: Vec<Node>| Tree { nodes, values: vec![1.0, 0.0, 0.0, 1.0] };
    let legal = vec![split, Node::leaf(0), Node::leaf(1)];
    assert!(RandomForestModel::new(1, 2, vec![tree(legal.clone())]).is_ok());
    let broken = [
        vec![],
        vec![Node { feature: 1, ..split }, legal[1], legal[2]],
        vec![Node { left: 0, ..split }, legal[1], legal[2]],
        vec![Node { right: 3, ..split }, legal[1], legal[2]],
        vec![Node { right: 1, ..split }, legal[1], legal[2]],
        vec![Node { threshold: f32::NAN, ..split }, legal[1], legal[2]],
        vec![split, legal[1], Node::leaf(2)],
    ];
    for nodes in broken {
        assert!(RandomForestModel::new(1, 2, vec![tree(nodes.clone())]).is_err(), "{nodes:?}");
    }
    assert_eq!(RandomForestModel::new(1, 2, Vec::new()), Err(ForestError::Size));
    let halves = Tree { values: vec![0.5, 0.4, 0.0, 1.0], ..tree(legal) };
    assert!(RandomForestModel::new(1, 2, vec![halves]).is_err());
}

/// The core must refuse or run every damaged model, never panic or loop.
#[test]
fn a_damaged_model_is_refused_or_runs() {
    let (values, classes) = labelled(300, 1);
    let rows = Rows::new(&values, 6).unwrap();
    let options = RandomForestOptions { trees: 4, ..RandomForestOptions::default() };
    let model = fit_classes(rows, &classes, &options, 1).unwrap();
    let sound = model.words();
    assert!(RandomForest::load(bytemuck::cast_slice(&sound), 6).is_ok());
    let mut random = Random::new(9);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut words = sound.clone();
        let at = random.below(words.len() as u32) as usize;
        words[at] ^= 1 << random.below(32);
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        let cut = if random.below(4) == 0 {
            random.below(bytes.len() as u32) as usize
        } else {
            bytes.len()
        };
        match RandomForest::load(&bytes[..cut], 6) {
            Err(_) => refused += 1,
            Ok(forest) => {
                let mut memory = vec![0; forest.memory_words()];
                for row in rows.iter().take(3) {
                    let score = forest.score(row, &mut memory);
                    assert!((0.0..=1.0).contains(&score), "{score}");
                }
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn thresholds_compare_as_in_double_precision() {
    let mut random = Random::new(5);
    for _ in 0..100_000 {
        let exact = random.between(-3.0, 3.0);
        let rounded = threshold_at_most(exact);
        for x in [rounded, rounded.next_up(), rounded.next_down()] {
            assert_eq!(x <= rounded, f64::from(x) <= exact);
        }
    }
}
