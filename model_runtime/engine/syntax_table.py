"""The languages that can be parsed: names, extensions, grammar packages, and the shape of a function in each.

A query captures with one match either a function (@whole, @name, @body) or something that qualifies the names in it
(@whole, @name). A Go method adds its @receiver.
"""

from __future__ import annotations

# language → (module of the grammar's wheel, the function there that gives the grammar)
GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}

NAMES = {
    "py": "python",
    "python3": "python",
    "js": "javascript",
    "jsx": "javascript",
    "javascriptreact": "javascript",
    "ts": "typescript",
    "typescriptreact": "tsx",
    "golang": "go",
    "rs": "rust",
    "c++": "cpp",
    "cxx": "cpp",
}

EXTENSIONS = {
    extension: language
    for language, extensions in {
        "python": ".py .pyi .pyw",
        "javascript": ".js .jsx .mjs .cjs",
        "typescript": ".ts .mts .cts",
        "tsx": ".tsx",
        "go": ".go",
        "rust": ".rs",
        "java": ".java",
        "c": ".c",
        "cpp": ".cpp .cc .cxx .c++ .h .hh .hpp .hxx .h++ .inl .ipp",
    }.items()
    for extension in extensions.split()
}

PYTHON = """
(function_definition name: (_) @name body: (_) @body) @whole
(class_definition name: (_) @name) @whole
"""

# A function may be the value of a variable, a property, a field or an assignment, whose name it then bears.
FUNCTION_VALUE = """[
  (arrow_function body: (_) @body)
  (function_expression body: (_) @body)
  (generator_function body: (_) @body)
]"""
JAVASCRIPT_COMMON = f"""
(function_declaration name: (_) @name body: (_) @body) @whole
(generator_function_declaration name: (_) @name body: (_) @body) @whole
(method_definition name: (_) @name body: (_) @body) @whole
(variable_declarator name: (identifier) @name value: {FUNCTION_VALUE}) @whole
(pair key: (_) @name value: {FUNCTION_VALUE}) @whole
(assignment_expression left: (_) @name right: {FUNCTION_VALUE}) @whole
(class_declaration name: (_) @name) @whole
(variable_declarator name: (identifier) @name value: [(class) (object)]) @whole
(pair key: (_) @name value: (object)) @whole
"""
JAVASCRIPT = f"{JAVASCRIPT_COMMON} (field_definition property: (_) @name value: {FUNCTION_VALUE}) @whole"
TYPESCRIPT = f"""{JAVASCRIPT_COMMON}
(public_field_definition name: (_) @name value: {FUNCTION_VALUE}) @whole
(abstract_class_declaration name: (_) @name) @whole
(internal_module name: (_) @name) @whole
"""

GO = """
(function_declaration name: (_) @name body: (_) @body) @whole
(method_declaration
  receiver: (parameter_list (parameter_declaration type: (_) @receiver)) name: (_) @name body: (_) @body) @whole
"""

RUST = """
(function_item name: (_) @name body: (_) @body) @whole
(impl_item type: (_) @name) @whole
(trait_item name: (_) @name) @whole
(mod_item name: (_) @name) @whole
"""

JAVA = """
(method_declaration name: (_) @name body: (_) @body) @whole
(constructor_declaration name: (_) @name body: (_) @body) @whole
(compact_constructor_declaration name: (_) @name body: (_) @body) @whole
(class_declaration name: (_) @name) @whole
(interface_declaration name: (_) @name) @whole
(enum_declaration name: (_) @name) @whole
(record_declaration name: (_) @name) @whole
"""

C = "(function_definition declarator: (_) @name body: (_) @body) @whole"
CPP = f"""{C}
(class_specifier name: (_) @name body: (_)) @whole
(struct_specifier name: (_) @name body: (_)) @whole
(union_specifier name: (_) @name body: (_)) @whole
(namespace_definition name: (_) @name) @whole
"""

FUNCTION_QUERIES = {
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "typescript": TYPESCRIPT,
    "tsx": TYPESCRIPT,
    "go": GO,
    "rust": RUST,
    "java": JAVA,
    "c": C,
    "cpp": CPP,
}
