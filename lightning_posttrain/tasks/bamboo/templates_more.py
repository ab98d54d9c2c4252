"""Questions for the Bamboo data on joins, windows, the best of groups, pivots, sets, chains and order.

In the form of `templates`, and the list of all of them, with the split each is asked in.
"""

from __future__ import annotations

from .templates import SINGLE, Template

T = Template
MORE: tuple[Template, ...] = (
    T(
        "join_inner", "train", "medium",
        "What is the total `{qty}` in `{t}` of each `{grp}` of `{d}` (`{fk}` is `{k}` of `{d}`)? Columns `{grp}` and "
        "`total`; rows of `{t}` whose `{fk}` is not in `{d}` do not count, and neither do groups without rows.",
        "Only pairs with a partner: an inner join, then one sum per group.",
        'result = {t}.join({d}, {t}.{fk} == {d}.{k}).group_by("{grp}").agg(total=_.{qty}.sum())',
    ),
    T(
        "join_count", "train", "hard",
        "How many rows of `{t}` belong to each row of `{d}` (`{fk}` is `{k}` of `{d}`)? Columns `{k}`, `{name}` and "
        "`n_rows`, which is 0 where there are none.",
        "All rows of {d} stay, so a left join; count a column of {t}, which is null where there is no partner.",
        'result = {d}.left_join({t}, {d}.{k} == {t}.{fk}).group_by("{k}", "{name}").agg(n_rows=_.{id}.count())',
    ),
    T(
        "join_anti", "train", "medium",
        "Which rows of `{d}` have no row in `{t}` (`{fk}` is `{k}` of `{d}`)? Columns `{k}` and `{name}`.",
        "Rows without a partner: an anti join.",
        'result = {d}.anti_join({t}, {d}.{k} == {t}.{fk}).select("{k}", "{name}")',
    ),
    T(
        "join_semi", "train", "hard",
        "Which rows of `{d}` have at least one row in `{t}` (`{fk}` is `{k}` of `{d}`) with a `{qty}` of at least {m}? "
        "Columns `{k}` and `{name}`, each row of `{d}` once.",
        "A semi join with the filtered table asks whether there is a partner and repeats nothing.",
        'large = {t}.filter(_.{qty} >= {m})\nresult = {d}.semi_join(large, {d}.{k} == large.{fk}).select("{k}", '
        '"{name}")',
        immune=("off_by_one",),
    ),
    T(
        "join_total", "val", "hard",
        "What is the total `{num}` in `{t}` of each row of `{d}` (`{fk}` is `{k}` of `{d}`)? Columns `{k}`, `{name}` "
        "and "
        "`total`, which is 0 where there is nothing to add.",
        "A left join keeps rows without a partner; their sum is null and becomes 0.",
        'result = {d}.left_join({t}, {d}.{k} == {t}.{fk}).group_by("{k}", '
        '"{name}").agg(total=_.{num}.sum().fill_null(0))',
    ),
    T(
        "join_without", "test", "hard",
        "Which rows of `{d}` have no row in `{t}` (`{fk}` is `{k}` of `{d}`) with the `{cat}` '{c}'? Columns `{k}`, "
        "`{name}`.",
        "An anti join with those rows only: others do not matter.",
        'some = {t}.filter(_.{cat} == "{c}")\nresult = {d}.anti_join(some, {d}.{k} == some.{fk}).select("{k}", '
        '"{name}")',
    ),
    T(
        "join_filter", "test", "medium",
        "Which rows of `{t}` belong to a row of `{d}` (`{fk}` is `{k}` of `{d}`) whose `{grp}` is not '{g}' (a "
        "missing one "
        "is neither)? Columns `{id}` and `{name}`.",
        "Join, then filter by the group; null is dropped by the comparison.",
        'result = {t}.join({d}, {t}.{fk} == {d}.{k}).filter(_.{grp} != "{g}").select("{id}", "{name}")',
        immune=("wrong_join",),
    ),
    T(
        "window_number", "train", "hard",
        "Number the rows of each `{cat}` in `{t}` from 1, by `{day}` and then `{id}`; rows without a `{cat}` are a "
        "group too. "
        "Columns `{id}`, `{cat}`, `pos`.",
        "row_number begins at 0 in Ibis, so 1 is added.",
        'result = {t}.select("{id}", "{cat}", pos=ibis.row_number().over(group_by="{cat}", order_by=["{day}", '
        '"{id}"]) + 1)',
        extra=(("off_by_one_window", ") + 1)", "))"),),
    ),
    T(
        "window_running", "train", "hard",
        "What is the running total of `{qty}` within each `{cat}` of `{t}`, by `{id}` (a missing `{qty}` adds "
        "nothing; rows "
        "without a `{cat}` are a group too)? Columns `{id}` and `running`, 0 as long as there is nothing to add.",
        "A cumulative window adds up all rows so far.",
        'result = {t}.select("{id}", running=_.{qty}.sum().over(ibis.cumulative_window(group_by="{cat}", '
        'order_by="{id}"))'
        ".fill_null(0))",
    ),
    T(
        "window_lag", "train", "hard",
        "By how much does the `{num}` of each row of `{t}` differ from the row before it, by `{id}`, of the same "
        "`{cat}`? "
        "Columns `{id}` and `change` (null for the first).",
        "lag gives the row before; without one, null.",
        'result = {t}.select("{id}", change=_.{num} - _.{num}.lag().over(group_by="{cat}", order_by="{id}"))',
    ),
    T(
        "window_dense", "val", "hard",
        "Rank the rows of `{t}` with a `{num}` by it: the highest has `place` 1, equal ones share a place, and no "
        "place is "
        "left out. Columns `{id}` and `place`.",
        "dense_rank leaves no gaps and begins at 0.",
        'result = {t}.filter(_.{num}.notnull()).select("{id}", '
        'place=ibis.dense_rank().over(order_by=ibis.desc("{num}")) + 1)',
        extra=(("off_by_one_window", ") + 1)", "))"),),
    ),
    T(
        "window_lead", "test", "hard",
        "For each row of `{t}`, what is the `{day}` of the next row, by `{id}`, of the same `{cat}`? Columns `{id}` "
        "and "
        "`next_day` (null for the last); rows without a `{cat}` are a group too.",
        "lead gives the next row of the group.",
        'result = {t}.select("{id}", next_day=_.{day}.lead().over(group_by="{cat}", order_by="{id}"))',
    ),
    T(
        "window_moving", "test", "hard",
        "For each row of `{t}`, what is the largest `{qty}` of itself and the two rows before it, by `{id}`? Columns "
        "`{id}` "
        "and `largest`.",
        "A window of two preceding rows up to the current one.",
        'result = {t}.select("{id}", largest=_.{qty}.max().over(ibis.window(preceding=2, following=0, '
        'order_by="{id}")))',
    ),
    T(
        "top_rows", "train", "hard",
        "Which {n} rows of each `{cat}` in `{t}` have the highest `{num}`? Of equal ones the lower `{id}` comes "
        "first; rows "
        "without a `{num}` are left out. Columns `{id}`, `{cat}`, `{num}`.",
        "Number the rows of each group from the highest; numbers begin at 0, so below {n} are the first {n}.",
        'result = (\n    {t}.filter(_.{num}.notnull())\n    .mutate(pos=ibis.row_number().over(group_by="{cat}", '
        'order_by=[ibis.desc("{num}"), "{id}"]))\n    .filter(_.pos < {n})\n    .select("{id}", "{cat}", "{num}")\n)',
        immune=("missing_filter",),
    ),
    T(
        "top_groups", "train", "hard",
        "Which {n} `{cat}` values have the highest total `{qty}` in `{t}`, highest first? Of equal ones the first in "
        "the "
        "alphabet; rows without a `{cat}` or `{qty}` are left out. Columns `{cat}` and `total`.",
        "Sum, order by the sum and then the name, and limit.",
        'result = (\n    {t}.filter(_.{cat}.notnull(), _.{qty}.notnull())\n    .group_by("{cat}")\n    '
        '.agg(total=_.{qty}.sum())\n    .order_by([ibis.desc("total"), "{cat}"])\n    .limit({n})\n)',
        ordered=("total", "{cat}"),
        immune=("missing_filter",),
    ),
    T(
        "top_ties", "val", "hard",
        "Which rows of each `{cat}` in `{t}` have its highest `{num}`? All of them where several have it; rows "
        "without a "
        "`{num}` are left out. Columns `{id}`, `{cat}`, `{num}`.",
        "rank gives equal rows the same number, and the first is 0.",
        'result = (\n    {t}.filter(_.{num}.notnull())\n    .mutate(pos=ibis.rank().over(group_by="{cat}", '
        'order_by=ibis.desc("{num}")))\n    .filter(_.pos == 0)\n    .select("{id}", "{cat}", "{num}")\n)',
        immune=("missing_filter",),
    ),
    T(
        "top_second", "test", "hard",
        "Which rows of `{t}` have the second highest `{num}` there is (all that have it)? Columns `{id}` and `{num}`.",
        "dense_rank numbers the different values from 0, so the second has 1.",
        'result = (\n    {t}.filter(_.{num}.notnull())\n    '
        '.mutate(pos=ibis.dense_rank().over(order_by=ibis.desc("{num}")))'
        '\n    .filter(_.pos == 1)\n    .select("{id}", "{num}")\n)',
        immune=("missing_filter",),
    ),
    T(
        "pivot_where", "train", "hard",
        "For each `{fk}` in `{t}`: the total `{qty}` of its rows with the `{cat}` '{c}' as `first`, and with '{e}' as "
        "`second` (null where there are none). Rows without a `{fk}` are a group too.",
        "One sum per column, each with its own condition.",
        'result = {t}.group_by("{fk}").agg(\n    first=_.{qty}.sum(where=_.{cat} == "{c}"),\n    '
        'second=_.{qty}.sum(where=_.{cat} == "{e}"),\n)',
        extra=(("missing_filter", ".sum(where=_.{cat} == \"{e}\")", ".sum()"),),
    ),
    T(
        "pivot_wider", "val", "hard",
        "For each `{fk}` that has rows of the `{cat}` '{c}' or '{e}' in `{t}`: a column `{c}` and a column `{e}` "
        "with the "
        "largest `{qty}` of that `{cat}` (null where there is none), beside `{fk}`.",
        "pivot_wider with both names given, after keeping their rows only.",
        'result = {t}.filter(_.{cat}.isin(["{c}", "{e}"])).pivot_wider(\n    id_cols="{fk}", names_from="{cat}", '
        'names=["{c}", "{e}"], values_from="{qty}", values_agg="max"\n)',
        extra=(("wrong_aggregate", 'values_agg="max"', 'values_agg="min"'),),
        immune=("missing_filter",),
    ),
    T(
        "pivot_longer", "test", "hard",
        "Turn the measures of `{t}` into rows: `{id}`, `measure` (the text '{num}' or '{qty}') and `value`; missing "
        "values "
        "are left out.",
        "pivot_longer stacks the columns; their nulls are dropped afterwards.",
        'result = {t}.select("{id}", "{num}", "{qty}").pivot_longer(["{num}", "{qty}"], names_to="measure", '
        'values_to="value").filter(_.value.notnull())',
    ),
    T(
        "set_union", "train", "medium",
        "Which keys occur as `{fk}` in `{t}` or as `{k}` in `{d}`? One column `key`, each once; a missing `{fk}` is "
        "no key.",
        "Union of both columns without repeats.",
        "result = {t}.filter(_.{fk}.notnull()).select(key=_.{fk}).union({d}.select(key=_.{k}), distinct=True)",
    ),
    T(
        "set_difference", "train", "medium",
        "Which values of `{k}` in `{d}` do not occur as `{fk}` in `{t}`? One column `key`, each once.",
        "The difference of two sets, in this order.",
        "result = {d}.select(key=_.{k}).difference({t}.select(key=_.{fk}), distinct=True)",
        extra=(("wrong_set", ".difference(", ".intersect("),),
        immune=("duplicates",),
    ),
    T(
        "set_intersect", "val", "medium",
        "Which keys occur both as `{fk}` in `{t}` and as `{k}` in `{d}`? One column `key`, each once.",
        "The intersection of two sets.",
        "result = {t}.select(key=_.{fk}).intersect({d}.select(key=_.{k}), distinct=True)",
        extra=(("wrong_set", ".intersect(", ".union("),),
        immune=("duplicates",),
    ),
    T(
        "set_stack", "test", "medium",
        "Put the `{cat}` of each row of `{t}` and the `{grp}` of each row of `{d}` under each other as `label`, "
        "repeats and "
        "missing ones included.",
        "A union that keeps repeats.",
        "result = {t}.select(label=_.{cat}).union({d}.select(label=_.{grp}), distinct=False)",
    ),
    T(
        "set_pairs", "train", "medium",
        "Which pairs of `{cat}` and `{fk}` occur in `{t}`? Each pair once, missing values included.",
        "Two columns without repeats.",
        'result = {t}.select("{cat}", "{fk}").distinct()',
    ),
    T(
        "chain_product", "train", "medium",
        "Which rows of `{t}` have a product of `{num}` and `{qty}` above {u}? Columns `{id}` and `product`.",
        "_ in a later step knows the column made before it.",
        'result = {t}.mutate(product=_.{num} * _.{qty}).filter(_.product > {u}).select("{id}", "product")',
        immune=("off_by_one",),
    ),
    T(
        "chain_mean", "train", "hard",
        "Which rows of `{t}` have a `{num}` above the mean of their `{cat}` (rows without one are a group too)? "
        "Columns "
        "`{id}`, `{cat}`, `{num}`.",
        "The mean of the group beside each row, by a window; then compare both.",
        'result = (\n    {t}.mutate(usual=_.{num}.mean().over(group_by="{cat}"))\n    .filter(_.{num} > _.usual)\n    '
        '.select("{id}", "{cat}", "{num}")\n)',
        extra=(("wrong_window", 'over(group_by="{cat}")', "over()"),),
    ),
    T(
        "chain_share", "val", "hard",
        "What share of the overall total `{qty}` of `{t}` has each `{cat}` (rows without one are a group too)? Columns "
        "`{cat}` and `share`, from 0 to 1.",
        "Totals of groups first; the sum over all of them then stands in a window.",
        'result = {t}.group_by("{cat}").agg(total=_.{qty}.sum()).select("{cat}", share=_.total / _.total.sum().over())',
    ),
    T(
        "chain_twice", "test", "hard",
        "How many `{cat}` values have 1 row in `{t}`, how many 2, and so on (no `{cat}` is a value too)? Columns "
        "`n_rows` and "
        "`n_values`.",
        "Group twice: rows by category, then categories by their number of rows.",
        'result = {t}.group_by("{cat}").agg(n_rows=_.count()).group_by("n_rows").agg(n_values=_.count())',
    ),
    T(
        "sort_down", "train", "medium",
        "List `{id}` and `{qty}` of the rows of `{t}` that have a `{qty}`, the largest first.",
        "order_by with desc.",
        'result = {t}.filter(_.{qty}.notnull()).select("{id}", "{qty}").order_by(ibis.desc("{qty}"))',
        ordered=("{qty}",),
    ),
    T(
        "sort_two", "val", "medium",
        "List `{id}`, `{cat}` and `{num}` of the rows of `{t}` that have a `{cat}` and a `{num}`: by `{cat}` in the "
        "alphabet, "
        "and within it the highest `{num}` first.",
        "Two keys, the second one descending.",
        'result = (\n    {t}.filter(_.{cat}.notnull(), _.{num}.notnull())\n    .select("{id}", "{cat}", "{num}")\n    '
        '.order_by(["{cat}", ibis.desc("{num}")])\n)',
        ordered=("{cat}", "{num}"),
    ),
    T(
        "sort_first", "test", "medium",
        "List `{id}` and `{day}` of the {n} latest rows of `{t}` by `{day}`, latest first; of equal ones the higher "
        "`{id}`.",
        "Order by the date and then the key, both descending, and limit.",
        'result = {t}.order_by([ibis.desc("{day}"), ibis.desc("{id}")]).limit({n}).select("{id}", "{day}")',
        ordered=("{day}", "{id}"),
    ),
)  # fmt: skip

TEMPLATES: tuple[Template, ...] = (*SINGLE, *MORE)
