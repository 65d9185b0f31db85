// The Firebase AI Logic Web SDK: what its Live session does, the checks named in argv one by one.
import { readFileSync } from "node:fs";
import { initializeApp } from "firebase/app";
import { AgentPlatformBackend, getAI, getLiveGenerativeModel, GoogleAIBackend, ResponseModality } from "firebase/ai";

const given = JSON.parse(process.argv[2]);
const version = JSON.parse(readFileSync(new URL("node_modules/firebase/package.json", import.meta.url))).version;
const pcm = Buffer.alloc(80000); // a second of tone, a second and a half of silence
for (let n = 0; n < 16000; n++) pcm.writeInt16LE(Math.round(9000 * Math.sin(0.118 * n)), 2 * n);
const lamp = { functionDeclarations: [{ name: "lamp", description: "Switch the lamp on." }] };
const app = initializeApp({ apiKey: "invented", appId: "1:1:web:1", projectId: "p" });
const backend = given.vertex ? new AgentPlatformBackend("us-central1") : new GoogleAIBackend();
const ai = getAI(app, { backend });

function connect(more = {}) {
  const generationConfig = {
    responseModalities: [ResponseModality.AUDIO],
    inputAudioTranscription: {},
    outputAudioTranscription: {},
  };
  return getLiveGenerativeModel(ai, { model: given.model, generationConfig, ...more }).connect();
}
async function speak(session) {
  for (let at = 0; at < pcm.length; at += 3200) {
    const data = pcm.subarray(at, at + 3200).toString("base64");
    await session.sendAudioRealtime({ mimeType: "audio/pcm;rate=16000", data });
  }
}
async function turn(session, each = async () => {}) {
  const messages = [];
  session.inbox ??= session.receive(); // leaving a `for await` would end it for good
  for (;;) {
    const { value: message, done } = await session.inbox.next();
    if (done) throw new Error("the session ended");
    messages.push(message);
    await each(message);
    if (message.turnComplete) return messages;
  }
}
const sound = (messages) =>
  messages.flatMap((m) => m.modelTurn?.parts ?? [])
    .reduce((sum, part) => sum + Buffer.from(part.inlineData?.data ?? "", "base64").length, 0);
const words = (messages, which) => messages.map((m) => m[which]?.text ?? "").join("");
function hold(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

const checks = {
  setup: async () => (await connect()).close(),
  text: async () => {
    const session = await connect();
    await session.send("Hello", false);
    await session.send("there", true);
    hold(sound(await turn(session)), "an answer to incremental content");
    await session.sendTextRealtime("And again");
    hold(sound(await turn(session)), "an answer to realtime text");
    await session.close();
  },
  "audio, automatic": async () => {
    const session = await connect();
    await speak(session);
    hold(sound(await turn(session)) >= 47000, "a second of sound");
    await session.close();
  },
  transcripts: async () => {
    const session = await connect();
    await speak(session);
    const messages = await turn(session);
    hold(words(messages, "inputTranscription").includes("speech"), "input");
    hold(words(messages, "outputTranscription").includes("speech"), "output");
    await session.close();
  },
  tools: async () => {
    const session = await connect({ tools: [lamp] });
    await session.send("The lamp, please");
    let said = "";
    for (let n = 0; n < 3 && !said.includes("It is on."); n++) {
      await turn(session, async (message) => {
        said += words([message], "outputTranscription");
        for (const call of message.functionCalls ?? []) {
          await session.sendFunctionResponses([{ id: call.id, name: call.name, response: { ok: true } }]);
        }
      });
    }
    hold(said.includes("It is on."), said);
    await session.close();
  },
  "going away": async () => {
    const session = await connect();
    let warned = "";
    for await (const message of session.receive()) {
      if (JSON.stringify(message).includes("timeLeft")) warned = message.type;
      if (warned) break;
    }
    hold(warned, "a notice");
    await session.close();
  },
};

const found = {};
for (const name of given.checks) {
  const limit = new Promise((_, reject) => setTimeout(() => reject(new Error("40 s are over")), 40000).unref());
  try {
    await Promise.race([checks[name](), limit]);
    found[name] = "ok";
  } catch (error) {
    found[name] = String(error.message).slice(0, 200);
  }
}
console.log(JSON.stringify({ version, found }));
process.exit(0);
