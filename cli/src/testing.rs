//! A fake model's spec, for tests of the commands: four tokens, blank, space, `a`, `b`, an output frame every two.

use acolyte::spec::{
    FrontEnd, GraphSpec, InputLayout, ModelSpec, OutputLayout, OutputValues, Role, SPEC_VERSION,
    Task, TokensSpec, WordMark,
};

/// The spec over a front-end of four features.
pub fn spec(task: Task, front_end: FrontEnd, input_layout: InputLayout) -> ModelSpec {
    ModelSpec {
        version: SPEC_VERSION,
        name: "fake".into(),
        task,
        role: Role::Student,
        license: "CC0-1.0".into(),
        sha256: String::new(),
        about: Default::default(),
        tokens: TokensSpec {
            pieces: ["<b>", " ", "a", "b"].map(String::from).into(),
            blank: 0,
            word_mark: WordMark::Separator(" ".into()),
        },
        front_end,
        graph: GraphSpec {
            input: "features".into(),
            input_layout,
            input_length: None,
            label: None,
            given: Vec::new(),
            output: "logits".into(),
            output_layout: OutputLayout::BV1T,
            output_values: OutputValues::Logits,
        },
        stride: 2,
        streaming: None,
    }
}
