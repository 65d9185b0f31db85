// @google/genai: what a Live client does, one check after the other.
// Reads {"urls": {…}, "vertex": bool, "model": …} from argv, prints {check: "ok" or what happened}.
import { readFileSync } from "node:fs";
import { GoogleGenAI, Modality } from "@google/genai";

const given = JSON.parse(process.argv[2]);
const version = JSON.parse(readFileSync(new URL("node_modules/@google/genai/package.json", import.meta.url))).version;
const pcm = Buffer.alloc(32000);
for (let n = 0; n < 16000; n++) pcm.writeInt16LE(Math.round(9000 * Math.sin(0.118 * n)), 2 * n);
const lamp = { functionDeclarations: [{ name: "lamp", description: "Switch the lamp on." }] };

function client(which) {
  const httpOptions = { baseUrl: given.urls[which] };
  // Vertex AI by an express key: a service account would ask Google's token service.
  if (given.vertex) return new GoogleGenAI({ vertexai: true, apiKey: "invented", httpOptions });
  return new GoogleGenAI({ apiKey: "invented", httpOptions: { ...httpOptions, apiVersion: "v1beta" } });
}

class Session {
  constructor() {
    this.inbox = [];
    this.waiting = null;
    this.closed = null;
  }
  put(message) {
    if (this.waiting) this.waiting(message);
    else this.inbox.push(message);
    this.waiting = null;
  }
  next() {
    if (this.inbox.length) return Promise.resolve(this.inbox.shift());
    return new Promise((resolve) => (this.waiting = resolve));
  }
  async turn(each = () => {}) {
    const messages = [];
    for (;;) {
      const message = await this.next();
      if (message === null) throw new Error(`closed: ${this.closed}`);
      messages.push(message);
      each(message);
      const content = message.serverContent;
      if (content?.turnComplete && content.interactionStatus !== "IN_PROGRESS") return messages;
    }
  }
}

async function connect(which = "plain", config = {}, manual = true) {
  const session = new Session();
  const full = {
    responseModalities: [Modality.AUDIO],
    inputAudioTranscription: {},
    outputAudioTranscription: {},
    ...(manual ? { realtimeInputConfig: { automaticActivityDetection: { disabled: true } } } : {}),
    ...config,
  };
  session.live = await client(which).live.connect({
    model: given.model,
    config: full,
    callbacks: {
      onmessage: (message) => session.put(message),
      onerror: () => {},
      onclose: (event) => {
        session.closed = `${event.code} ${event.reason}`;
        session.put(null);
      },
    },
  });
  return session;
}

function speak(session, data = pcm, manual = true) {
  if (manual) session.live.sendRealtimeInput({ activityStart: {} });
  for (let at = 0; at < data.length; at += 3200) {
    const audio = { data: data.subarray(at, at + 3200).toString("base64"), mimeType: "audio/pcm;rate=16000" };
    session.live.sendRealtimeInput({ audio });
  }
  if (manual) session.live.sendRealtimeInput({ activityEnd: {} });
}

const write = (session, text, role = "user", turnComplete = true) =>
  session.live.sendClientContent({ turns: [{ role, parts: [{ text }] }], turnComplete });
const sound = (messages) =>
  messages.flatMap((m) => m.serverContent?.modelTurn?.parts ?? [])
    .reduce((sum, part) => sum + Buffer.from(part.inlineData?.data ?? "", "base64").length, 0);
const words = (messages, which) => messages.map((m) => m.serverContent?.[which]?.text ?? "").join("");
const usage = (messages) => messages.map((m) => m.usageMetadata).filter(Boolean).at(-1);
function hold(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

const checks = {
  setup: async () => (await connect()).live.close(),
  text: async () => {
    const session = await connect();
    write(session, "Hello there");
    hold(sound(await session.turn()), "an answer");
    session.live.sendRealtimeInput({ text: "And again" });
    hold(sound(await session.turn()), "an answer to realtime text");
    session.live.close();
  },
  "audio, manual": async () => {
    const session = await connect();
    speak(session);
    hold(sound(await session.turn()) >= 47000, "a second of sound");
    session.live.close();
  },
  "audio, automatic": async () => {
    const session = await connect("plain", {}, false);
    speak(session, Buffer.concat([pcm, Buffer.alloc(48000)]), false);
    hold(sound(await session.turn()) >= 47000, "a second of sound");
    session.live.close();
  },
  transcripts: async () => {
    const session = await connect();
    speak(session);
    const messages = await session.turn();
    hold(words(messages, "inputTranscription").includes("speech"), "input");
    hold(words(messages, "outputTranscription").includes("speech"), "output");
    session.live.close();
  },
  tools: async () => {
    const session = await connect("tools", { tools: [lamp] });
    speak(session);
    let said = "";
    for (let n = 0; n < 3 && !said.includes("It is on."); n++) {
      await session.turn((message) => {
        said += words([message], "outputTranscription");
        for (const call of message.toolCall?.functionCalls ?? []) {
          const answer = { id: call.id, name: call.name, response: { ok: true } };
          session.live.sendToolResponse({ functionResponses: [answer] });
        }
      });
    }
    hold(said.includes("It is on."), said);
    session.live.close();
  },
  interruption: async () => {
    const session = await connect("slow");
    speak(session);
    let begun = false;
    const messages = await session.turn((message) => {
      if (!begun && sound([message])) {
        begun = true;
        session.live.sendRealtimeInput({ activityStart: {} });
      }
    });
    hold(messages.some((m) => m.serverContent?.interrupted), "interrupted");
    session.live.close();
  },
  "GoAway, resume": async () => {
    const session = await connect("short", { sessionResumption: {} });
    speak(session);
    let handle = "";
    let warned = false;
    for (let message = await session.next(); message !== null; message = await session.next()) {
      handle = message.sessionResumptionUpdate?.newHandle || handle;
      warned ||= Boolean(message.goAway);
    }
    hold(warned && session.closed.startsWith("1008"), session.closed);
    const again = await connect("short", { sessionResumption: { handle } });
    speak(again);
    hold(usage(await again.turn()).promptTokenCount === 75, "the turn before in the prompt");
    again.live.close();
  },
  window: async () => {
    const window = { triggerTokens: "10000", slidingWindow: { targetTokens: "512" } };
    const session = await connect("plain", { contextWindowCompression: window });
    let last;
    for (let n = 0; n < 3; n++) {
      write(session, "word ".repeat(6000));
      last = usage(await session.turn());
    }
    hold(last.promptTokenCount > 0 && last.promptTokenCount < 10000, JSON.stringify(last));
    session.live.close();
  },
  "instruction midway": async () => {
    const session = await connect();
    if (given.vertex) write(session, "Be brief.", "system", false);
    else if (given.model.includes("3.8") && session.live.sendContextUpdate) {
      session.live.sendContextUpdate({ systemInstruction: { parts: [{ text: "Be brief." }] } });
    } else throw new Error("absent");
    speak(session);
    hold(sound(await session.turn()), "an answer");
    session.live.close();
  },
};

const found = {};
for (const [name, check] of Object.entries(checks)) {
  const limit = new Promise((_, reject) => setTimeout(() => reject(new Error("40 s are over")), 40000).unref());
  try {
    await Promise.race([check(), limit]);
    found[name] = "ok";
  } catch (error) {
    found[name] = error.message === "absent" ? "not here" : String(error.message).slice(0, 200);
  }
}
console.log(JSON.stringify({ version, found }));
process.exit(0);
