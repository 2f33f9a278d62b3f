//! Scores become verdicts by k of n, and end below a level of their own.

use stonechat_core::decision::{Decision, DecisionRule, Verdict};

fn verdicts(rule: &DecisionRule, scores: &[f32]) -> String {
    let mut decision = Decision::default();
    let letter = |score: &f32| match decision.push(rule, *score) {
        Verdict::Normal => 'n',
        Verdict::Anomaly => 'A',
    };
    scores.iter().map(letter).collect()
}

const RULE: DecisionRule =
    DecisionRule { threshold: 1.0, clear_level: 0.5, raise_count: 2, raise_of: 3, clear_count: 2 };

#[test]
fn two_of_three_raise() {
    assert_eq!(verdicts(&RULE, &[2.0, 0.0, 0.0, 2.0, 0.0, 2.0]), "nnnnnA");
    assert_eq!(verdicts(&RULE, &[1.0, 1.0, 1.0]), "nnn", "the threshold itself is normal");
}

#[test]
fn only_calm_scores_in_a_row_clear() {
    let scores = [2.0, 2.0, 0.6, 0.6, 0.6, 0.5, 0.6, 0.5, 0.4, 0.0];
    assert_eq!(verdicts(&RULE, &scores), "nAAAAAAAnn");
    assert_eq!(
        verdicts(&RULE, &[2.0, 2.0, 0.0, 0.0, 2.0, 2.0]),
        "nAAnnA",
        "what was before is forgotten"
    );
}

#[test]
fn the_longest_rule_counts_every_score() {
    let rule = DecisionRule { raise_count: 32, raise_of: 32, ..RULE };
    assert!(rule.is_legal());
    let verdicts = verdicts(&rule, &[2.0; 33]);
    assert_eq!(verdicts.find('A'), Some(31));
}

#[test]
fn rules_that_cannot_be_followed_are_known() {
    assert!(RULE.is_legal());
    for rule in [
        DecisionRule { threshold: f32::NAN, ..RULE },
        DecisionRule { clear_level: 2.0, ..RULE },
        DecisionRule { raise_count: 0, ..RULE },
        DecisionRule { raise_count: 4, ..RULE },
        DecisionRule { raise_count: 33, raise_of: 33, ..RULE },
        DecisionRule { clear_count: 0, ..RULE },
    ] {
        assert!(!rule.is_legal(), "{rule:?}");
    }
}
