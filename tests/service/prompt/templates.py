"""Templates that take tools, in the forms in which models carry them."""

from __future__ import annotations

# Qwen2.5's, in what matters here.
QWEN = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "system" and loop.first %}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content }}
        {{- '\n</tool_response><|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
# Tells of tools, but writes calls in a format of its own.
OTHER = r"""{%- for message in messages %}
    {{- message.role + ': ' + message.content }}
    {%- for call in message.tool_calls %}
        {{- '{"name": "' + call.function.name + '", "input": {}}' }}
    {%- endfor %}
    {{- '\n' }}
{%- endfor %}
{%- if tools is not none %}{{ tools | tojson }}{% endif %}
"""
# Takes no system prompt.
GEMMA = r"""{%- for message in messages %}
    {%- if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
    {{- message.role + ': ' + message.content + '\n' }}
{%- endfor %}
"""

# The formats of calls of other families, in templates like theirs.
LLAMA = r"""{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' and tools and loop.first %}
        {%- for tool in tools %}{{ tool | tojson(indent=4) }}{{ "\n\n" }}{% endfor %}
        {{- message.content }}<|eot_id|>
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}' }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>' + (message.content | tojson) }}
    {%- else %}
        {{- message.role + ': ' + message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
"""
MISTRAL = r"""{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools is not none %}
            {{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST]' + message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- '[TOOL_CALLS][' }}
        {%- for call in message.tool_calls %}
            {%- if call.id is not defined or call.id | length != 9 %}
                {{- raise_exception('Tool call IDs should have length 9!') }}
            {%- endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
            {%- if not loop.last %}, {% endif %}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'tool' %}
        {%- if message.tool_call_id is not defined or message.tool_call_id | length != 9 %}
            {{- raise_exception('Tool call IDs should have length 9!') }}
        {%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' + message.content + ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- message.content + eos_token }}
    {%- endif %}
{%- endfor %}
"""
MISTRAL_WITH_ARGUMENTS = r"""{%- for message in messages %}
    {%- if tools and loop.first %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
    {{- message.content }}
    {%- for call in message.tool_calls %}
        {%- set text = call.function.arguments %}
        {%- set text = text if text is string else text | tojson %}
        {{- '[TOOL_CALLS]' + call.function.name + '[CALL_ID]' + call.id + '[ARGS]' + text }}
    {%- endfor %}
{%- endfor %}
"""
GRANITE = r"""{%- set system = 'To call tools, respond only with <|tool_call|> and a list.' %}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system }}
{%- if tools %}
    {{- '<|start_of_role|>available_tools<|end_of_role|>' + (tools | tojson(indent=4)) }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_of_role|>' + message.role + '<|end_of_role|>' + message.content }}
{%- endfor %}
"""
QWEN_CODER = r"""{%- if tools %}
    {%- for tool in tools %}{{ tool.function.name }}{% endfor %}
    {{- 'Call them so: <tool_call>' }}
{%- endif %}
{%- for message in messages %}
    {{- message.role + ': ' + message.content }}
    {%- for call in message.tool_calls %}
        {{- '<tool_call>\n<function=' + call.function.name + '>\n' }}
        {%- for name, value in call.function.arguments | items %}
            {{- '<parameter=' + name + '>\n' + value + '\n</parameter>\n' }}
        {%- endfor %}
        {{- '</function>\n</tool_call>' }}
    {%- endfor %}
{%- endfor %}
"""
# Families whose templates show no tools.
PHI = r"""{% for message in messages %}
{{- '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}
"""
ZEPHYR = r"""{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
LLAMA_2 = r"""{% if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}
{%- else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- set content = message['content'] %}
    {%- if loop.index0 == 0 and system_message != false %}
        {%- set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + content %}
    {%- endif %}
    {%- if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- else %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}"""
DEEPSEEK = r"""{% set ns = namespace(system_prompt='', is_first=true) %}
{%- for message in messages if message['role'] == 'system' %}
    {%- set ns.system_prompt = ns.system_prompt + message['content'] %}
{%- endfor %}
{{- bos_token + ns.system_prompt }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}
    {%- elif message['role'] == 'assistant' %}
        {%- set content = message['content'].split('</think>')[-1] | trim %}
        {%- generation %}{{ '<|Assistant|>' + content + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"""
# Shows contents only as parts.
VISION = r"""{% for message in messages %}{{ message.role | capitalize + ':' }}
{%- for part in message.content %}
    {%- if part.type == 'image' %}<image>{% elif part.type == 'text' %}{{ part.text }}{% endif %}
{%- endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
FAMILIES = {
    "Qwen": QWEN,
    "Qwen Coder": QWEN_CODER,
    "Llama 3": LLAMA,
    "Llama 2": LLAMA_2,
    "Mistral": MISTRAL,
    "Mistral Small": MISTRAL_WITH_ARGUMENTS,
    "Granite": GRANITE,
    "Gemma": GEMMA,
    "Phi": PHI,
    "Zephyr": ZEPHYR,
    "DeepSeek": DEEPSEEK,
    "SmolVLM": VISION,
}
