"""What jinja2, set up as transformers 5.17 sets it up, renders from small templates: ../template/cases.json.

Run with a Python that has transformers: python make_template.py
"""
import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [
    {"role": "system", "content": [{"type": "text", "text": " Be brief. "}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What's this?"}]},
]
TEMPLATES = [
    # generation blocks and the white space around them
    "a\n  {% generation %}\n  b\n  {% endgeneration %}\nc",
    "a {%- generation -%} b {%- endgeneration -%} c",
    "a\n{%+ generation +%}\nb\n{% endgeneration %}",
    "{% generation %}{{ '{% generation %}' }}{% endgeneration %}{# {% generation %} #}",
    "{% raw %}{% generation %}{% endraw %}{% generation %}x{% endgeneration %}",
    "{%- raw -%} {% generation %} {%- endraw -%} ",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "{{ {'a': {'}}': 1}}['a']['}}'] }}{% generation %}y{% endgeneration %}",
    "{% generation foo %}x{% endgeneration %}",
    "{%generation%}x{%endgeneration%}",
    "{% if true %}{% generation %}x{% endif %}{% endgeneration %}",
    # white space
    "  {% if true %}\n  x\n  {% endif %}\n\n",
    "{# c #}\nx\n{#- c -#}\ny\r\nz\rw\n",
    "x {{- 1 -}} y\n",
    "{% for m in messages %}\n{{ m.role }}\n{% endfor %}",
    # parts
    "{% for m in messages %}{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}<image>{% endfor %}{% endfor %}",
    "{% for m in messages %}{% for c in m.content %}{% if c.type == 'text' %}{{ c.text | trim }}{% else %}<{{ c['type'] }}>{% endif %}{% endfor %}{% endfor %}",
    "{% for m in messages %}{{ m.content | map(attribute='type') | join(',') }};{% endfor %}",
    "{% for m in messages %}{% if m.content is string %}s{% elif m.content is iterable %}i{% endif %}{% if m is mapping %}m{% endif %}{% endfor %}",
    "{{ messages[0].content[0].text.strip() }}|{{ messages[1:] | length }}|{{ messages[-1].role }}",
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content[0].text %}{% set messages = messages[1:] %}{% endif %}{{ sys }}{{ messages | length }}",
    "{% for m in messages %}{{ '<s>' + m['content'] }}{% endfor %}",
    "{{ messages[1]['content'] }}",
    "{{ messages }}",
    "{{ messages[1].nothing }}{{ messages[1].nothing is defined }}",
    "{{ messages[1].nothing.more }}",
    # tojson
    "{{ messages | tojson }}",
    "{{ messages[1] | tojson(indent=2) }}",
    "{{ {'k': [1, 2.5, true, none, 'é<>&\"\\n']} | tojson }}",
    "{{ 'é🙂' | tojson(ensure_ascii=true) }}",
    "{{ [1, [], {}] | tojson(separators=(',', ':')) }}{{ [] | tojson(indent=4) }}{{ [1] | tojson(indent=4) }}",
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}",
    # printing
    "{{ true }} {{ false }} {{ none }} {{ 1 }} {{ 1.0 }} {{ 'x' }} {{ [1, 'a', \"it's\", none] }} {{ {'a': 'b'} }}",
    "{{ bos_token }}{{ bos_token + 'x' }}{{ eos_token }}",
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ 7 / 2 }} {{ 2 ** 5 }} {{ 1 ~ 'a' }}",
    # control
    "{% for i in range(6) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% macro f(x, y='d') %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1) }}{{ f(1, y=2) }}",
    "{% set x %}a{% if true %}b{% endif %}{% endset %}{{ x }}",
    "{{ 'yes' if messages else 'no' }}{{ 'no' if tools else 'yes' }}{{ tools is none }}{{ documents is defined }}",
    "{% filter upper %}abc{% endfilter %}{{ raise_exception('stop') }}",
    "{% if add_generation_prompt %}gen{% endif %}",
    # variables and fields that are set
    "{% set ns = namespace(a=1) %}{% set ns.a, ns.b = 2, [3] %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace() %}{% set ns.x %}a{% set ns.y = 1, 2 %}b{% endset %}{{ ns.x }}{{ ns.y[1] }}",
    "{% set ns = namespace(x='') %}{% for m in messages -%}\n  {%- set ns.x = ns.x + m.role -%}\n{%- endfor %}[{{ ns.x }}]",
    "{% set ns = namespace() %}{% set ns.x | upper -%} a {%- endset -%} [{{ ns.x }}]",
    "{% set ns = namespace(a={'b': 1}) %}{% set ns.c = ns.a %}{{ ns.c.b }}{{ ns.c is mapping }}{{ ns.d is defined }}",
    "  {%+ set x = 1 +%}\n{{ x }}\n  {% set y = 'a' if false else 'b' %}\n{{ y }}",
    "{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}{%set(d)=4%}{{ d }}",
    "{% set x = \"a='%}'\" %}{{ x }}{% set x %}{% set y %}z{% endset %}{{ y }}{% endset %}{{ x }}",
    "{% set x = messages[1].nothing %}{{ x is defined }}{% set x = 2 if false %}[{{ x }}]",
    "{% set x = [1] + [2] %}{{ x is sequence }}{{ x[0] }}{{ x[-1] }}{{ x[1:] | length }}{{ x == [1, 2] }}{{ [0] + x }}",
    "{% set messages = messages[1:] %}{{ messages is sequence }}{{ messages[0].role }}{% set messages = messages + messages %}{{ messages | length }}",
    "{% set x = %}",
    "{% set x = 1 2 %}",
    "{% set messages.x = 1 %}",
    # methods
    "{{ ' a b '.strip() }}|{{ ' a'.lstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a '.rstrip() }}|",
    "{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}{{ 'abc'.startswith('x') }}",
    "{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a b c'.split(none, 1) }}",
    "{{ 'abc'.upper() }}{{ 'ABC'.lower() }}{{ \"it's a dog\".title() }}{{ 'aBC d'.capitalize() }}",
    "{{ 'aaa'.replace('a', 'b', 2) }}{{ 'aé'.find('é') }}{{ 'aa'.rfind('a') }}{{ 'x'.find('y') }}{{ 'aa'.count('a') }}{{ '-'.join(['a', 'b']) }}",
    "{{ '12'.isdigit() }}{{ 'a1'.isalpha() }}{{ ' '.isspace() }}{{ 'AB'.isupper() }}{{ 'ab'.islower() }}{{ ''.isdigit() }}",
    "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('a') }}{{ {'a': 1}.get('b') }}{{ {'a': 1}.get('b', 2) }}",
    "{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].get('role') }}{{ messages[0].keys() | list }}",
    "{{ 'a<think>b</think>c'.split('</think>')[-1].lstrip('\\n') }}{{ 'a'.removeprefix('a') }}{{ 'ab'.removesuffix('b') }}",
    "{{ 'x\ny'.splitlines() }}",
    # filters and tests
    "{{ [3, 1, 2] | sort | list }}{{ [1, 2] | first }}{{ [1, 2] | last }}{{ 'a' | default('b') }}{{ nope | default('b') }}{{ 'a b' | replace('a', 'c') }}",
    "{{ 'abc' | length }}{{ 'abc' | upper }}{{ 'aBc dE' | title }}{{ 'abc' | capitalize }}{{ '3' | int + 1 }}{{ 3 | string + 'x' }}{{ ['a', 'b'] | reverse | list }}",
    "{{ 1 is number }}{{ 'a' in 'abc' }}{{ 3 not in [1, 2] }}{{ none is none }}{{ true is boolean }}{{ 2 is even }}{{ 2 is divisibleby 2 }}{{ 1 is sameas 1 }}",
    "{{ messages | selectattr('role', 'ne', 'user') | list | length }}{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list }}",
    "{{ 'a\nb' | indent(2) }}",
    "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}",
    "{%- for m in messages -%}{{- m.role -}}{%- endfor -%}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{{ messages | length > 1 and messages[0].role == 'system' }}",
    "{% unknown %}",
    "{{ 1 + }}",
    # order of dicts, tuples, cycler, joiner
    "{{ {'z': 1, 'a': {'y': 2, 'b': 3}} | tojson }}{{ (1, 2) }}",
    "{{ {'z': 1, 'a': 2} }}{% for k in {'z': 1, 'a': 2} %}{{ k }}{% endfor %}{{ {'z': 1, 'a': 2} | list }}",
    "{{ dict(z=1, a=2) | tojson }}{{ {'z': 1, 'a': 2}.keys() | list }}{{ {'z': 1, 'a': 2}.values() | list }}",
    "{{ ('a',) }}{{ ('it', (1, [2, (3, 4)])) }}{{ (1, 2) | tojson }}{{ (1, 2)[1] }}{{ (1, 2) | length }}",
    "{{ 2 in (1, 2) }}{{ (1, 2) == (1, 2) }}{{ 'b' not in ('a', 'b') }}{{ (1) }}",
    "{% for a, b in ((1, 2), (3, 4)) %}{{ a }}{{ b }};{% endfor %}{% set t = (1, 2) %}{{ t }}{{ t is sequence }}",
    "{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'z': 1, 'a': 2}.items() | list }}",
    "{{ {'z': 1, 'a': 2} | items | list }}{{ {'z': 1, 'a': 2} | dictsort }}",
    "{% if messages[0].role in ('system', 'developer') %}s{% endif %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set x = c.reset() %}{{ c.current }}",
    "{% for m in messages %}{{ loop.cycle('odd', 'even') }}{% endfor %}{% set j = joiner('|') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}",
    "{% set ns = namespace(z=1, a=2) %}{% for i in range(3) %}{% set ns.z = ns.z + i %}{% endfor %}{{ ns.z }}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace({'a': 1}) %}{{ ns.a }}{% set ns.a = (1, 2) %}{{ ns.a }}{% set ns.b = {'z': 1, 'a': 2} %}{{ ns.b | tojson }}",
    "{% for i in range(5) %}{% for j in range(5) %}{% if j > i %}{% break %}{% endif %}{% if j == 1 %}{% continue %}{% endif %}{{ j }}{% endfor %};{% endfor %}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ i }}{{ loop.previtem is defined }}{{ loop.nextitem }}{% else %}none{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}{% for i in [3, 1] | sort %}{{ loop.revindex }}{{ loop.changed(i) }}{% endfor %}",
]


def render(template):
    try:
        return render_jinja_template([MESSAGES], chat_template=template, add_generation_prompt=True, bos_token="<s>")[0][0]
    except Exception as e:  # whatever the engine refuses
        print("refused:", repr(template), type(e).__name__, e)
        return None


cases = [{"template": t, "rendered": render(t)} for t in TEMPLATES]
out = Path(__file__).parent.parent / "template" / "cases.json"
out.parent.mkdir(exist_ok=True)
out.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
